"""Did this simulator make the data? The one-step error of replayed rows.

  python -m tools.validate_simulators.replay
  python -m tools.validate_simulators.replay --minari_root=DIR --ogbench_dir=DIR --only=pen,cube

Sets a simulator to the state of a recorded row, applies the recorded action, and compares its next
observation with the recorded one. Equal sizes prove nothing: each case has a simulator that should
fit and, where one exists, a lookalike of the same sizes that should not.

A row's error is its largest component; `relative` errors are in standard deviations of the
component over the episodes read. Some states are not in the rows: then only the start of an episode
can be rebuilt, its actions are replayed from there, and errors add up (`rebuilt: start`). Families
without data at hand replay a rollout of random actions that is recorded on the spot (`source:
self`). It shows whether rows hold the state, and nothing about any dataset.

No row holds the root's x of Hopper, HalfCheetah and Walker2d, which nothing depends on; a velocity
clipped at 10 (such rows are left out); digits beyond float32; or `qacc_warmstart`, where MuJoCo's
solver starts, which is set to 0.

The ant's errors on OGBench's rows in contact are larger than rounding to float32 makes them, in
OGBench's own environment too.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import gymnasium as gym
import mujoco
import numpy as np
from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.tasks.mazes import MAPS
from tools.validate_simulators.rebuild import FAMILIES, flat, start_anew
from tools.validate_simulators.recordings import (
    Episode,
    minari,
    ogbench,
    rollout,
    spread,
    wandering,
)

FLAGS = flags.FlagValues()
define_whole('rows', 1000, 'rows per case', FLAGS)
ROOT = os.environ.get('MINARI_DATASETS_PATH')
flags.DEFINE_string('minari_root', ROOT, 'folder of Minari sets', FLAGS)
flags.DEFINE_string('ogbench_dir', None, "folder of OGBench's npz files", FLAGS)
flags.DEFINE_list('only', [], 'these cases, by name', FLAGS)
flags.DEFINE_string('out', None, 'JSON file to write', FLAGS)

SUMMARY = ('median', 'p99', 'max')
KITCHEN_TASKS = ('microwave', 'kettle', 'light switch', 'slide cabinet')


@dataclasses.dataclass(frozen=True)
class Simulator:
    """An environment, made by `make`. `fits` says whether it should have made the data."""

    name: str
    make: Callable[[], gym.Env]
    fits: bool = True


@dataclasses.dataclass(frozen=True)
class Case:
    """Rows, the family that rebuilds their states, and simulators. Without `read`: a rollout."""

    name: str
    family: str
    simulators: tuple[Simulator, ...]
    read: Callable[[], Iterable[Episode] | None] | None = None
    note: str = ''


def env_of(env_id: str, **kwargs: Any) -> Callable[[], gym.Env]:
    """How to make an environment."""

    def make() -> gym.Env:
        with contextlib.redirect_stderr(io.StringIO()):  # it prints a note on other tasks
            import gymnasium_robotics

            gym.register_envs(gymnasium_robotics)
            if 'singletask' in env_id:
                import ogbench  # noqa: F401 (registers its environments)
            # Mazes leave a temporary file with their model behind.
            with (
                tempfile.TemporaryDirectory() as folder,
                mock.patch.object(tempfile, 'tempdir', folder),
            ):
                env = gym.make(env_id, disable_env_checker=True, **kwargs)
            env.reset(seed=0)
        return env

    return make


def versions(robot: str, same: bool = True) -> tuple[Simulator, ...]:
    """A robot's v5, which fits, and its v4, which does where both are the `same`."""
    right, other = f'{robot}-v5', f'{robot}-v4'
    return Simulator(right, env_of(right)), Simulator(other, env_of(other), fits=same)


def ants() -> dict[str, Simulator]:
    """The simulators of a large ant maze."""
    d4rl = 'dtql_jax.tasks.simulators:D4RLAntMaze-v0'
    bare = {'exclude_current_positions_from_observation': False}
    bare |= {'include_cfrc_ext_in_observation': False}
    large = env_of('antmaze-large-singletask-task1-v0')
    return {
        'd4rl': Simulator('D4RLAntMaze-v0', env_of(d4rl, maze_map=MAPS['large'])),
        'robotics': Simulator('AntMaze_Large-v4', env_of('AntMaze_Large_Diverse_GR-v4')),
        'gymnasium': Simulator('Ant-v5 without walls', env_of('Ant-v5', **bare), fits=False),
        'ogbench': Simulator('OGBench antmaze-large', large),
    }


def cases(minari_root: str | None, ogbench_dir: str | None) -> tuple[Case, ...]:
    """Every family of tasks, with data where some are at hand."""

    def recorded(name: str) -> Callable[[], Iterator[Episode] | None]:
        return functools.partial(minari, minari_root, name)

    def one(name: str, env_id: str, **kwargs: Any) -> tuple[Simulator, ...]:
        return (Simulator(name, env_of(env_id, **kwargs)),)

    navigate = functools.partial(ogbench, ogbench_dir, 'antmaze-large-navigate-v0')
    ant, wrong = ants(), functools.partial(dataclasses.replace, fits=False)
    robotics = ant['robotics'], wrong(ant['d4rl'])
    own = ant['ogbench'], ant['d4rl'], ant['gymnasium'], wrong(ant['robotics'])
    hopper, cheetah = versions('Hopper'), versions('HalfCheetah')
    walker = versions('Walker2d', same=False)
    point = one('PointMaze_UMaze-v3', 'PointMaze_UMaze-v3', maze_map=MAPS['umaze'])
    door, pen = (one(name, name) for name in ('AdroitHandDoor-v1', 'AdroitHandPen-v1'))
    kitchen_id = 'dtql_jax.tasks.simulators:D4RLKitchen-v0'
    kitchen = one('D4RLKitchen-v0', kitchen_id, tasks=KITCHEN_TASKS)
    cube = one('OGBench cube-single', 'cube-single-singletask-v0')
    return (
        Case('hopper-medium', 'planar', hopper, recorded('mujoco/hopper/medium-v0')),
        Case('hopper-expert', 'planar', hopper, recorded('mujoco/hopper/expert-v0')),
        Case('halfcheetah-medium', 'planar', cheetah, recorded('mujoco/halfcheetah/medium-v0')),
        Case('walker2d', 'planar', walker, note='v4: less friction on the right foot'),
        Case('antmaze-large-diverse', 'all', robotics, recorded('D4RL/antmaze/large-diverse-v1')),
        Case('ogbench-antmaze-large', 'all', own, navigate),
        Case('pointmaze-umaze', 'all', point, wandering, 'collected for this call'),
        Case('door-human', 'door', door, recorded('D4RL/door/human-v2'), 'rows lack velocities'),
        Case('pen', 'pen', pen, note='rows lack the velocities of the hand'),
        Case('kitchen', 'kitchen', kitchen, note='rows lack velocities; other noise'),
        Case('cube', 'lagging', cube, note='from qpos and qvel, which the files hold'),
    )


def clipped(state: np.ndarray) -> bool:
    """Whether the observation clips a velocity at 10, so that the state is unknown."""
    return bool((np.abs(state) == 10).any())


def replay(env: gym.Env, family: str, episodes: list[Episode], rows: int) -> np.ndarray:
    """Errors of the next observations `[N, O]`."""
    set_state, rebuilt = FAMILIES[family]
    every = [(episode, row) for episode in episodes for row in range(len(episode.action))]
    if rebuilt == 'row':
        known = [(episode, row) for episode, row in every if not clipped(episode.state[row])]
        every = [known[i] for i in spread(len(known), rows)]
    errors = []
    for episode, row in every[:rows]:
        if rebuilt == 'row' or row == 0:
            start_anew(env)
            set_state(env, episode.state[row].astype(np.float64))
        obs = flat(env.unwrapped.step(episode.action[row])[0])
        errors.append(obs - episode.obs[row + 1])
    return np.array(errors)


def summary(errors: np.ndarray) -> dict[str, float]:
    """Median, 99th percentile and maximum over rows of a row's largest component."""
    largest = np.abs(errors).max(axis=1)
    median, most = np.percentile(largest, [50, 99])
    return {'median': float(median), 'p99': float(most), 'max': float(largest.max())}


def measured(case: Case, rows: int) -> Iterator[dict[str, Any]]:
    """One result per simulator of the case."""
    if case.read is None:
        episodes = list(rollout(case.simulators[0].make(), case.family, rows))
    else:
        found = case.read()
        if found is None:
            yield {'case': case.name, 'source': 'absent'}
            return
        episodes = list(found)
    deviation = np.concatenate([episode.obs for episode in episodes]).std(axis=0)
    deviation[deviation < 1e-6] = 1.0  # constant
    for simulator in case.simulators:
        env, began = simulator.make(), time.perf_counter()
        dims = {
            'simulator': [flat(env.reset(seed=0)[0]).size, env.action_space.shape[0]],
            'data': [episodes[0].obs.shape[1], episodes[0].action.shape[1]],
        }
        errors = replay(env, case.family, episodes, rows)
        yield {
            'case': case.name,
            'source': 'self' if case.read is None else 'data',
            'note': case.note,
            'rebuilt': FAMILIES[case.family][1],
            'simulator': simulator.name,
            'fits': simulator.fits,
            'obs_action_dims': dims,
            'rows': len(errors),
            'clipped_share': float(np.mean([clipped(s) for e in episodes for s in e.state])),
            'absolute': summary(errors),
            'relative': summary(errors / deviation),
            'seconds': round(time.perf_counter() - began, 2),
        }
        env.close()


def line(result: dict[str, Any]) -> str:
    """A result as a line of the printed table."""
    if result['source'] == 'absent':
        return f'{result["case"]:22} absent'
    numbers = [result[kind][key] for kind in ('absolute', 'relative') for key in SUMMARY]
    return (
        f'{result["case"]:22} {result["source"]:5} {result["rebuilt"]:6}'
        f'{result["simulator"]:26} {"fits" if result["fits"] else "wrong":6}'
        f'{"/".join(map(str, result["obs_action_dims"]["data"])):7}{result["rows"]:5} '
        + ' '.join(f'{number:8.1e}' for number in numbers)
        + f'  {result["note"]}'
    )


def main(asked: flags.FlagValues) -> None:
    results = []
    warnings.simplefilter('ignore')  # "a newer version exists": the data's version counts
    print(
        f'{"case":22} {"rows":5} {"from":6}{"simulator":33}{"dims":7}{"N":>5} '
        + ' '.join(f'{name:>8}' for name in (*SUMMARY, 'rel.', 'rel.99%', 'rel.max'))
    )
    for case in cases(asked.minari_root, asked.ogbench_dir):
        if asked.only and case.name not in asked.only:
            continue
        for result in measured(case, asked.rows):
            results.append(result)
            print(line(result), flush=True)
            dims = result.get('obs_action_dims')
            if dims and dims['simulator'] != dims['data']:
                raise SystemExit(f'{case.name}: sizes differ: {dims}')
    if asked.out:
        versions = {'mujoco': mujoco.__version__, 'gymnasium': gym.__version__}
        when = {'python': platform.python_version(), 'date': time.strftime('%Y-%m-%d')}
        report = {**versions, **when, 'results': results}
        pathlib.Path(asked.out).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
