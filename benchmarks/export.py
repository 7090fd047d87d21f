"""Exported policies against `load_policy`: differences, sizes, and time of an action.

  taskset -c 0 python benchmarks/export.py [--agents=dtql,iql --updates=100 --out=FILE]

It trains each agent for a few updates in pointmaze-umaze, with the task's settings, and exports the
last policy in each format. The exported policies act on the same random observations as
`load_policy`, with the noise that it drew, and without chance. `max_difference` is the largest over
observations and dimensions of the action, in a box of +-1; `others` counts the observations whose
action is further off than 1e-5, as where another candidate was chosen. `ms` is the
processor time of one action for one observation, drawing its noise included, on one core. `kb` is
the size of the files that one policy needs. `load_policy` has no actions without chance: there the
reference is the agent's `act` with the median of each noise. FILE keeps the rows of other agents.
"""

import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import measure
import numpy as np
from absl import flags
from measure import Report

import dtql_jax
from dtql_jax.agents.registry import AGENTS, find_agent
from dtql_jax.agents.settings import kinds
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.rollout.actor import EVAL_TAG
from dtql_jax.runs.export.noise import Draw, Policy
from dtql_jax.runs.export.numpy_policy import Policy as NumpyPolicy
from dtql_jax.runs.export.write import exported
from dtql_jax.runs.policy import Run
from dtql_jax.training.compilation import own_numbers
from dtql_jax.types import needed

PHASES = ('pretrain_steps', 'behaviour_steps', 'critic_steps')  # of agents with several phases
SAME = 1e-5

FLAGS = measure.make_flags()
flags.DEFINE_list('agents', [], 'agents (default: all)', FLAGS)
define_whole('updates', 100, 'updates of each phase of training', FLAGS)
define_whole('observations', 1000, 'observations on which policies are compared', FLAGS)
define_whole('calls', 100, 'timed calls of each policy', FLAGS)


def trained(agent: str, updates: int, folder: pathlib.Path) -> pathlib.Path:
    """The folder of a run with few updates."""
    known = kinds(find_agent(agent).agent.config_class)
    settings = {name: updates for name in PHASES if name in known}
    request = {
        'env': 'pointmaze-umaze', 'agent': agent, 'num_seeds': 1, 'steps': updates,
        'eval_every': updates, 'eval_episodes': 1, 'settings': {'clone_seeds': 0, **settings},
    }  # fmt: skip
    return dtql_jax.run(request, out=folder).run_dir


class Case:
    """A run, its policy with noise as an argument, and what `load_policy` does."""

    def __init__(self, run_dir: pathlib.Path, observations: int):
        run = Run(run_dir)
        self.run_dir, size = run_dir, run.agent.spec.obs_dim
        self.obs = np.random.default_rng(0).normal(size=(observations, size)).astype(np.float32)
        self.actions = dtql_jax.load_policy(run_dir, batch=observations)(self.obs)
        with own_numbers():
            self.policy: Policy = exported(run, 0, 'last', 'numpy')[0]
            root = jax.random.fold_in(jax.random.key(EVAL_TAG), run.lanes[0].seed)
            episodes = jax.vmap(jax.random.fold_in, (None, 0))(root, np.arange(observations))
            keys = jax.vmap(jax.random.fold_in, (0, None))(episodes, 0)
            self.words = np.asarray(jax.random.key_data(keys))
            self.noise = [np.asarray(x) for x in jax.jit(jax.vmap(self.policy.draw))(keys)]
            median = self.policy.median()
            act = jax.jit(lambda obs: self.policy.act(obs, median))
            self.fixed = np.stack([act(obs) for obs in self.obs])

    def chance(self, kind: str, i: int) -> Any:
        """What `load_policy` drew for an observation, as a format takes it."""
        return self.words[i] if kind == 'stablehlo' else [x[i] for x in self.noise]


class Loaded(NamedTuple):
    """An exported policy: with chance, without, what draws the chance, and the files it needs."""

    act: Callable[[np.ndarray, Any], np.ndarray]
    fixed: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator], Any]
    files: tuple[str, ...]


def load_stablehlo(folder: pathlib.Path, case: Case) -> Loaded:
    from jax import export

    policy, fixed = (
        jax.jit(export.deserialize(bytearray((folder / f'{name}.stablehlo').read_bytes())).call)
        for name in VARIANTS
    )
    return Loaded(
        lambda obs, words: np.asarray(policy(obs[None], words[None]))[0],
        lambda obs: np.asarray(fixed(obs[None]))[0],
        lambda rng: rng.integers(2**32, size=2, dtype=np.uint32),
        ('policy.stablehlo',),
    )


def load_onnx(folder: pathlib.Path, case: Case) -> Loaded:
    package = needed('this benchmark', 'onnxruntime')
    options = package.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    policy, fixed = (
        package.InferenceSession(str(folder / f'{name}.onnx'), options) for name in VARIANTS
    )
    names = [x.name for x in policy.get_inputs()]
    return Loaded(
        lambda obs, noise: policy.run(None, dict(zip(names, [obs, *noise], strict=True)))[0],
        lambda obs: fixed.run(None, {'obs': obs})[0],
        lambda rng: drawn(rng, case.policy.draws),
        ('policy.onnx',),
    )


def load_numpy(folder: pathlib.Path, case: Case) -> Loaded:
    policy = NumpyPolicy(folder)
    files = ('policy.py', 'weights.safetensors', 'config.json')
    return Loaded(policy.act, policy.deterministic, policy.draw, files)


VARIANTS = ('policy', 'deterministic')
FORMATS = {'stablehlo': load_stablehlo, 'onnx': load_onnx, 'numpy': load_numpy}


def drawn(rng: np.random.Generator, draws: Sequence[Draw]) -> list[np.ndarray]:
    """Noise of a generator."""
    kinds = {'normal': rng.standard_normal, 'uniform': rng.random}
    return [kinds[draw.kind](draw.shape, dtype=np.float32) for draw in draws]


def compared(case: Case, kind: str, folder: pathlib.Path, calls: int) -> dict[str, Any]:
    """The differences, the size and the times of one export."""
    dtql_jax.export(case.run_dir, folder, kind)
    policy, rng = FORMATS[kind](folder, case), np.random.default_rng(1)
    found = [policy.act(obs, case.chance(kind, i)) for i, obs in enumerate(case.obs)]
    fixed = [policy.fixed(obs) for obs in case.obs]
    obs = case.obs[0]
    return {
        'kb': sum((folder / name).stat().st_size for name in policy.files) / 1000,
        **differences(np.stack(found), case.actions),
        'ms': milliseconds(lambda: policy.act(obs, policy.draw(rng)), calls),
        **{f'fixed_{k}': v for k, v in differences(np.stack(fixed), case.fixed).items()},
        'fixed_ms': milliseconds(lambda: policy.fixed(obs), calls),
    }


def differences(found: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    """How far actions `[N, A]` are from others."""
    off = np.abs(found - wanted).max(1)
    return {'max_difference': float(off.max()), 'others': int((off > SAME).sum())}


def milliseconds(act: Callable[[], object], calls: int) -> float:
    """The processor time of a call, the mean of some. Other programs do not count."""
    act()
    began = time.process_time()
    for _ in range(calls):
        act()
    return 1000 * (time.process_time() - began) / calls


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table of `docs/export.md`."""
    head = ('agent', 'format', 'kB', 'largest difference', 'other actions', 'ms', 'without chance: '
            'largest difference', 'ms', '`load_policy` ms')  # fmt: skip
    lines = [head, ['---'] * len(head)]
    for row in rows:
        numbers = f'{row["max_difference"]:.0e}', row['others'], f'{row["ms"]:.2f}'
        fixed = f'{row["fixed_max_difference"]:.0e}', f'{row["fixed_ms"]:.2f}'
        reference = f'{row["load_policy_ms"]:.2f}'
        lines.append(
            (row['agent'], row['format'], f'{row["kb"]:,.0f}', *numbers, *fixed, reference)
        )
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def main(asked: flags.FlagValues) -> None:
    agents, order = asked.agents or list(AGENTS), list(AGENTS)
    sizes = {'updates': asked.updates, 'observations': asked.observations}
    report = Report(asked.out, keep=True, **sizes)
    report.content['results'] = [row for row in report.rows if row['agent'] not in agents]
    with tempfile.TemporaryDirectory() as above:
        for agent in agents:
            folder = pathlib.Path(above, agent)
            case = Case(trained(agent, asked.updates, folder / 'run'), asked.observations)
            policy, obs = dtql_jax.load_policy(case.run_dir), case.obs[0]
            reference = milliseconds(lambda: policy(obs), asked.calls)  # noqa: B023
            for kind in FORMATS:
                row = compared(case, kind, folder / kind, asked.calls)
                named = {'agent': agent, 'format': kind, **row, 'load_policy_ms': reference}
                report.add(named)
    report.rows.sort(key=lambda row: order.index(row['agent']))
    report.save()
    print(f'\n{table(report.rows)}')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
