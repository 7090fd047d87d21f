"""DTQL against Diffusion-QL, and both against the released torch code: training and acting.

  python benchmarks/reference.py                                       # this package's two agents
  python benchmarks/reference.py --reference_dtql=DIR --reference_dql=DIR    # and the released code

DIR are checkouts of TianyuCodings/Diffusion_Trusted_Q_Learning and of
Zhendong-Wang/Diffusion-Policies-for-Offline-RL; they need torch, einops, tabulate and
python-dateutil beside this package. Every contender gets the same synthetic transitions on the same
device. Blocks of updates and actions of all contenders take turns, and medians are compared;
compilation is apart.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import measure
import numpy as np
from absl import flags
from measure import ANTMAZE, WALKER, Case, Report, Timer, TrainingTimer

from dtql_jax.cli.flags import run_command
from dtql_jax.types import UserError

FLAGS = measure.make_flags(blocks=7, block_seconds=3.0)
flags.DEFINE_list('dims', [WALKER, ANTMAZE], 'observation/action sizes', FLAGS)
flags.DEFINE_string('reference_dtql', None, 'checkout of the released DTQL', FLAGS)
flags.DEFINE_string('reference_dql', None, 'checkout of the released Diffusion-QL', FLAGS)
flags.DEFINE_list('seeds', ['1', '4'], 'numbers of seeds of our DTQL, except for antmaze', FLAGS)

WORKER = pathlib.Path(__file__).with_name('reference_worker.py')
ACTING_S = 0.2  # seconds of a block of actions
REST_S = 0.2  # before a block, for the threads of the contender before it


@dataclasses.dataclass(frozen=True)
class Contender:
    """Who is timed: this package's or the released code of a method, 'dtql' or 'dql'."""

    method: str
    batch_size: int
    seeds: int = 1
    max_q_backup: bool = False
    released: bool = False

    @property
    def name(self) -> str:
        parts = [self.method, 'released' if self.released else 'ours', f'batch {self.batch_size}']
        parts += ['max-Q backup'] if self.max_q_backup else []
        return ', '.join([*parts, f'{self.seeds} seeds'] if self.seeds > 1 else parts)


@dataclasses.dataclass
class Timed:
    """The timers of a contender; the released code tells its version of torch and its threads."""

    training: Timer
    acting: Timer
    compile_s: float | None = None
    torch: str | None = None

    def block(self) -> None:
        """Times a block of updates and one of actions."""
        time.sleep(REST_S)
        self.training.block()
        self.acting.block()


def ours(one: Contender, dims: str, gamma: float, block_s: float) -> Timed:
    """A contender of this package, compiled and warm."""
    own = (('gamma', gamma),) if one.method == 'dtql' else (('max_q_backup', one.max_q_backup),)
    agent = 'dtql' if one.method == 'dtql' else 'diffusion_ql'
    engine = Case(agent, dims, one.batch_size, one.seeds, settings=own).engine()
    training = TrainingTimer(engine, block_s)
    acting = measure.acting_timer(engine.agent, training.state, 1, ACTING_S)
    return Timed(training.timers['train'], acting, training.compile_s)


def released(process: subprocess.Popen, block_s: float) -> Timed:
    """A contender in a process of its own, see `reference_worker`."""
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout
    torch = answers.readline().strip()
    if not torch:
        raise UserError('the released code did not start: see above')

    def ask(job: str, n: int) -> None:
        print(job, n, file=requests, flush=True)
        answers.readline()  # once it is done

    train, act = (functools.partial(ask, job) for job in ('train', 'act'))
    return Timed(Timer(train, block_s), Timer(act, ACTING_S), torch=torch)


def contenders(dims: str, seeds: list[str], checkouts: dict[str, str | None]) -> list[Contender]:
    """Who is compared at one size of task."""
    own = [Contender('dtql', 256), Contender('dql', 256)]
    if dims == ANTMAZE:
        own = [
            Contender('dtql', 2048),
            Contender('dql', 2048, max_q_backup=True),
            Contender('dql', 256, max_q_backup=True),  # the batch of its own antmaze runs
        ]
    theirs = [dataclasses.replace(one, released=True) for one in own if checkouts[one.method]]
    many = [] if dims == ANTMAZE else [Contender('dtql', 256, int(n)) for n in seeds if n != '1']
    return [own[0], *many, *own[1:], *theirs]


def command(one: Contender, checkout: str, data: pathlib.Path, gamma: float) -> list[str]:
    """How to start the worker of a released contender."""
    own = {'gamma': gamma} if one.method == 'dtql' else {'max_q_backup': one.max_q_backup}
    return [
        *(sys.executable, str(WORKER), f'--method={one.method}', f'--checkout={checkout}'),
        *(f'--data={data}', f'--batch_size={one.batch_size}', f'--settings={json.dumps(own)}'),
        f'--device={"cpu" if jax.default_backend() == "cpu" else "cuda"}',
    ]


def write(dims: str, path: pathlib.Path) -> None:
    """The synthetic transitions as the released samplers name them."""
    data = measure.synthetic(dims)
    columns = {'observations': data.obs, 'actions': data.action, 'rewards': data.reward}
    np.savez(path, **columns, terminals=1 - data.mask, next_observations=data.next_obs)


def compare(dims: str, asked: flags.FlagValues, report: Report) -> None:
    """Adds a row for each contender at one size of task; prints DTQL's ratios to them."""
    gamma = 1.0 if dims == ANTMAZE else 0.0
    checkouts = {'dtql': asked.reference_dtql, 'dql': asked.reference_dql}
    timers: dict[Contender, Timed] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = pathlib.Path(folder, 'data.npz')
        write(dims, path)
        for one in contenders(dims, asked.seeds, checkouts):
            if not one.released:
                timers[one] = ours(one, dims, gamma, asked.block_seconds)
                continue
            worker = command(one, checkouts[one.method], path, gamma)
            pipe = subprocess.PIPE
            process = subprocess.Popen(worker, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.stdin.close)  # which ends the worker
            timers[one] = released(process, asked.block_seconds)
        measure.take_turns(timers.values(), asked.blocks)
    first: dict[str, Any] = {}
    for one, timer in timers.items():
        row = {'name': one.name, 'dims': dims, **dataclasses.asdict(one)}
        row |= {'updates_per_s': timer.training.rate}
        row |= {'range': [min(timer.training.rates), max(timer.training.rates)]}
        row |= {'ms_per_action': 1e3 / timer.acting.rate if one.seeds == 1 else None}
        report.add({**row, 'compile_s': timer.compile_s, 'torch': timer.torch})
        first = first or row
        print(f'  DTQL makes {first["updates_per_s"] / row["updates_per_s"]:.2f} x its updates/s')
        if row['ms_per_action']:
            share = first['ms_per_action'] / row['ms_per_action']
            print(f'  DTQL takes {share:.2f} x its time per action', flush=True)


def main(asked: flags.FlagValues) -> None:
    report = Report(asked.out)
    for dims in asked.dims:
        compare(dims, asked, report)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
