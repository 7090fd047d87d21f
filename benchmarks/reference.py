"""DTQL against Diffusion-QL, and both against the released torch code: training and acting.

  python benchmarks/against_diffusion_ql.py                           # this package's two agents
  python benchmarks/against_diffusion_ql.py \\
    --reference_dtql=DIR --reference_dql=DIR                          # and the released code

DIR are checkouts of TianyuCodings/Diffusion_Trusted_Q_Learning and of
Zhendong-Wang/Diffusion-Policies-for-Offline-RL; they need torch, einops, tabulate and
python-dateutil beside this package. Every contender gets the same synthetic transitions on the same
device, and blocks of updates (or actions) of all of them take turns, so that a machine that drifts
favours none. Medians of the blocks are compared; compilation is apart.
"""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags
from measure import ANTMAZE, WALKER, ActingTimer, TrainingTimer, machine, sizes, synthetic

from dtql_jax.agents.registry import AGENTS
from dtql_jax.types import Lane, Spec, Transition, UserError

_DTQL = flags.DEFINE_string('reference_dtql', None, 'checkout of the released DTQL')
_DQL = flags.DEFINE_string('reference_dql', None, 'checkout of the released Diffusion-QL')
_SEEDS = flags.DEFINE_list('seeds', ['1', '4'], 'numbers of seeds of our DTQL at the first size')
_BLOCKS = flags.DEFINE_integer('blocks', 7, 'timed blocks per contender')
_BLOCK_SECONDS = flags.DEFINE_float('block_seconds', 3.0, 'seconds per block')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')

WORKER = pathlib.Path(__file__).with_name('reference_worker.py')
CALLS = 30  # actions per block
WARM_UP = 3  # updates, and actions


@dataclasses.dataclass(frozen=True)
class Contender:
    """Who is timed: ours or the released code of a method, at a batch size."""

    method: str  # 'dtql' or 'dql'
    batch_size: int
    seeds: int = 1
    max_q_backup: bool = False
    released: bool = False

    @property
    def name(self) -> str:
        parts = [self.method, 'released' if self.released else 'ours', f'batch {self.batch_size}']
        parts += ['max-Q backup'] if self.max_q_backup else []
        return ', '.join([*parts, f'{self.seeds} seeds'] if self.seeds > 1 else parts)


class Ours:
    """A contender of this package."""

    def __init__(self, contender: Contender, dims: str, gamma: float, data: Transition):
        cls = AGENTS['dtql' if contender.method == 'dtql' else 'diffusion_ql'].agent
        own = {'gamma': gamma} if contender.method == 'dtql' else {
            'max_q_backup': contender.max_q_backup
        }  # fmt: skip
        agent = cls(Spec(*sizes(dims)), cls.config_class(batch_size=contender.batch_size, **own))
        lanes = [Lane(contender.method, seed) for seed in range(contender.seeds)]
        self.training = TrainingTimer(agent, data, lanes, _BLOCK_SECONDS.value)
        self.acting = ActingTimer(agent, self.training.state, batch=1, calls=CALLS)

    def train(self) -> float:
        """Updates/s of a block of the last phase, of all seeds together."""
        self.training.block()
        return self.training.rates[self.training.phases[-1].name][-1]

    def act(self) -> float:
        """Milliseconds per action of a block."""
        self.acting.seconds.clear()
        self.acting.block()
        return self.acting.ms()


class Released:
    """A contender in a process of its own, see `reference_worker`."""

    def __init__(self, process: subprocess.Popen, torch: str):
        self.process, self.torch = process, torch
        self.ask('train', WARM_UP)
        self.ask('act', WARM_UP)
        self.updates = max(1, round(WARM_UP * _BLOCK_SECONDS.value / self.ask('train', WARM_UP)))

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, contender: Contender, checkout: str, data: pathlib.Path, gamma: float
    ) -> Iterator['Released']:
        """The process, which ends with the block."""
        command = [
            *(sys.executable, str(WORKER), f'--method={contender.method}'),
            *(f'--checkout={checkout}', f'--data={data}', f'--batch_size={contender.batch_size}'),
            *(f'--gamma={gamma}', f'--device={"cpu" if on_cpu() else "cuda"}'),
            *(['--max_q_backup'] if contender.max_q_backup else []),
        ]
        pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
        with subprocess.Popen(command, **pipes) as process:
            if not (torch := process.stdout.readline()):
                raise UserError(f'{checkout}: the released code did not start, see above')
            yield cls(process, torch.strip())
            process.stdin.close()

    def ask(self, job: str, n: int) -> float:
        """Seconds of `n` updates or actions."""
        print(job, n, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def train(self) -> float:
        """Updates/s of a block."""
        return self.updates / self.ask('train', self.updates)

    def act(self) -> float:
        """Milliseconds per action of a block."""
        return 1e3 * self.ask('act', CALLS) / CALLS


def on_cpu() -> bool:
    """Whether this package runs on a CPU, and so the released code too."""
    return jax.default_backend() == 'cpu'


def contenders(dims: str) -> list[Contender]:
    """Who is compared at one size of task."""
    references = {'dtql': _DTQL.value, 'dql': _DQL.value}
    released = [method for method, checkout in references.items() if checkout]
    if dims == WALKER:
        ours = [Contender('dtql', 256, int(seeds)) for seeds in _SEEDS.value]
        ours += [Contender('dql', 256)]
        return ours + [Contender(method, 256, released=True) for method in released]
    ours = [
        Contender('dtql', 2048),
        Contender('dql', 2048, max_q_backup=True),
        Contender('dql', 256, max_q_backup=True),  # the batch of its own antmaze runs
    ]
    theirs = [dataclasses.replace(one, released=True) for one in ours if one.method in released]
    return ours + theirs


def measure(dims: str) -> list[dict]:
    """A row for each contender at one size of task."""
    gamma = 1.0 if dims == ANTMAZE else 0.0
    data = synthetic(dims)
    who = contenders(dims)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = pathlib.Path(folder, 'data.npz')
        np.savez(
            path,
            observations=data.obs,
            actions=data.action,
            rewards=data.reward,
            terminals=1.0 - data.mask,
            next_observations=data.next_obs,
        )
        timed = {}
        for one in who:
            checkout = {'dtql': _DTQL.value, 'dql': _DQL.value}[one.method]
            timed[one] = (
                stack.enter_context(Released.started(one, checkout, path, gamma))
                if one.released
                else Ours(one, dims, gamma, data)
            )
        rates = {one: [] for one in who}
        actions = {one: [] for one in who}
        for _ in range(_BLOCKS.value):
            for one, timer in timed.items():
                time.sleep(0.2)  # what ran before comes to rest
                rates[one].append(timer.train())
                if one.seeds == 1:
                    actions[one].append(timer.act())
    return [
        {
            'name': one.name,
            'dims': dims,
            **dataclasses.asdict(one),
            'updates_per_s': float(np.median(rates[one])),
            'range': [min(rates[one]), max(rates[one])],
            'ms_per_action': float(np.median(actions[one])) if actions[one] else None,
            'compile_s': None if one.released else timed[one].training.compile_s,
            'torch': timed[one].torch if one.released else None,
        }
        for one in who
    ]


def text(rows: list[dict]) -> str:
    """The rows and our DTQL's ratios to each of them."""
    ours = next(r for r in rows if (r['method'], r['released'], r['seeds']) == ('dtql', False, 1))
    lines = [f'obs/action {rows[0]["dims"]}', f'{"":40}updates/s  DTQL is   ms/action  DTQL takes']
    for row in rows:
        ratio = ours['updates_per_s'] / row['updates_per_s']
        line = f'{row["name"]:40}{row["updates_per_s"]:9.1f}{ratio:8.2f} x'
        if row['ms_per_action']:
            share = ours['ms_per_action'] / row['ms_per_action']
            line += f'{row["ms_per_action"]:11.2f}{share:10.2f} x'
        lines.append(line)
    return '\n'.join(lines)


def main(_: list[str]) -> None:
    report = {**machine(), 'results': []}
    for dims in (WALKER, ANTMAZE):
        rows = measure(dims)
        print(text(rows) + '\n', flush=True)
        report['results'] += rows
        if _OUT.value:
            pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
