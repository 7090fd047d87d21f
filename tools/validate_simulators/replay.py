"""Is it the simulator that made the data? The one-step error of replayed rows.

  python benchmarks/replay.py [--rows=1000 --minari_root=DIR --ogbench_dir=DIR --only=NAMES]

Puts a simulator into the state of a recorded row, applies the recorded action, and compares what it
shows next with the recorded next row. Sizes that agree prove nothing: each case has a simulator
that should fit and, where there is one, a lookalike of the same sizes that should not.

A row's error is its largest component; `relative` errors are in standard deviations of the
component over the episodes read. Some states are not in the rows. Then only an episode's start can
be rebuilt, and its actions are replayed from there, errors adding up (`rebuilt: start`). Families
without data at hand replay a rollout of random actions that is recorded on the spot (`source:
self`): that shows what of the state the rows hold, and nothing about any dataset.

What no row holds: the root's x of Hopper, HalfCheetah and Walker2d, which nothing depends on; a
velocity clipped at 10 (such rows are left out); digits beyond float32; `qacc_warmstart`, where
MuJoCo's solver starts, which is set to 0.

The ant's errors on OGBench's rows are larger than float32's rounding makes them, in rows that touch
something, and the same in OGBench's own environment.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import gymnasium as gym
import mujoco
import numpy as np
from absl import app, flags, logging
from measure import machine
from rebuild import FAMILIES, flat, start_anew
from recordings import Episode, minari, ogbench, rollout, spread, wandering

from dtql_jax.tasks.mazes import MAPS

_ROWS = flags.DEFINE_integer('rows', 1000, 'rows per case')
_MINARI = flags.DEFINE_string(
    'minari_root', os.environ.get('MINARI_DATASETS_PATH'), 'folder of Minari sets'
)
_OGBENCH = flags.DEFINE_string('ogbench_dir', None, "folder of OGBench's npz files")
_ONLY = flags.DEFINE_list('only', None, 'these cases, by name')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')

SUMMARY = ('median', 'p99', 'max')
KITCHEN_TASKS = ('microwave', 'kettle', 'light switch', 'slide cabinet')


@dataclasses.dataclass(frozen=True)
class Simulator:
    """An environment, made by `make`; `fits` says whether the data are meant to be its own."""

    name: str
    make: Callable[[], gym.Env]
    fits: bool = True


@dataclasses.dataclass(frozen=True)
class Case:
    """Rows, how to rebuild a state from one, and the simulators to try. `read=None`: a rollout."""

    name: str
    family: str
    simulators: tuple[Simulator, ...]
    read: Callable[[], Iterable[Episode] | None] | None = None
    note: str = ''


def env_of(env_id: str, **kwargs: Any) -> Callable[[], gym.Env]:
    """How to make an environment."""

    def make() -> gym.Env:
        with contextlib.redirect_stderr(io.StringIO()):  # it greets with a note on other tasks
            import gymnasium_robotics

            gym.register_envs(gymnasium_robotics)
            if 'singletask' in env_id:
                import ogbench  # noqa: F401 (registers its environments)
            # Mazes write their model to a temporary file, and leave it there.
            with (
                tempfile.TemporaryDirectory() as folder,
                mock.patch.object(tempfile, 'tempdir', folder),
            ):
                env = gym.make(env_id, disable_env_checker=True, **kwargs)
            env.reset(seed=0)
        return env

    return make


def cases() -> tuple[Case, ...]:
    """Every family of tasks, with data where some are at hand."""

    def versions(robot: str, same: bool = True) -> tuple[Simulator, ...]:
        right, other = f'{robot}-v5', f'{robot}-v4'
        return Simulator(right, env_of(right)), Simulator(other, env_of(other), fits=same)

    def recorded(name: str) -> Callable[[], Iterator[Episode] | None]:
        return functools.partial(minari, _MINARI.value, name)

    d4rl_ant = Simulator(
        'D4RLAntMaze-v0', env_of('dtql_jax.tasks.simulators:D4RLAntMaze-v0', maze_map=MAPS['large'])
    )
    robotics_ant = Simulator('AntMaze_Large-v4', env_of('AntMaze_Large_Diverse_GR-v4'))
    bare = {'exclude_current_positions_from_observation': False}
    bare |= {'include_cfrc_ext_in_observation': False}
    gymnasium_ant = Simulator('Ant-v5 without walls', env_of('Ant-v5', **bare), fits=False)
    own_ant = Simulator('OGBench antmaze-large', env_of('antmaze-large-singletask-task1-v0'))
    door, pen = (
        Simulator(name, env_of(name)) for name in ('AdroitHandDoor-v1', 'AdroitHandPen-v1')
    )
    cube = Simulator('OGBench cube-single', env_of('cube-single-singletask-v0'))
    kitchen = Simulator(
        'D4RLKitchen-v0', env_of('dtql_jax.tasks.simulators:D4RLKitchen-v0', tasks=KITCHEN_TASKS)
    )
    point = Simulator('PointMaze_UMaze-v3', env_of('PointMaze_UMaze-v3', maze_map=MAPS['umaze']))
    wrong = dataclasses.replace
    return (
        Case(
            'hopper-medium',
            'planar',
            versions('Hopper'),
            recorded('mujoco/hopper/medium-v0'),
        ),
        Case(
            'hopper-expert',
            'planar',
            versions('Hopper'),
            recorded('mujoco/hopper/expert-v0'),
        ),
        Case(
            'halfcheetah-medium',
            'planar',
            versions('HalfCheetah'),
            recorded('mujoco/halfcheetah/medium-v0'),
        ),
        Case(
            'walker2d',
            'planar',
            versions('Walker2d', same=False),
            None,
            'v4: less friction on the right foot',
        ),
        Case(
            'antmaze-large-diverse',
            'all',
            (robotics_ant, wrong(d4rl_ant, fits=False)),
            recorded('D4RL/antmaze/large-diverse-v1'),
        ),
        Case(
            'ogbench-antmaze-large',
            'all',
            (own_ant, d4rl_ant, gymnasium_ant, wrong(robotics_ant, fits=False)),
            functools.partial(ogbench, _OGBENCH.value, 'antmaze-large-navigate-v0'),
        ),
        Case('pointmaze-umaze', 'all', (point,), wandering, 'collected for the occasion'),
        Case(
            'door-human',
            'door',
            (door,),
            recorded('D4RL/door/human-v2'),
            'rows lack velocities',
        ),
        Case('pen', 'pen', (pen,), None, 'rows lack the velocities of the hand'),
        Case(
            'kitchen',
            'kitchen',
            (kitchen,),
            None,
            'rows lack velocities; other noise',
        ),
        Case('cube', 'lagging', (cube,), None, 'from qpos and qvel, which the files hold'),
    )


def clipped(state: np.ndarray) -> bool:
    """Whether a velocity was cut off at 10, so that it is not known."""
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
    """Median, 99 % and largest of each row's largest component."""
    largest = np.abs(errors).max(axis=1)
    median, most = np.percentile(largest, [50, 99])
    return {'median': float(median), 'p99': float(most), 'max': float(largest.max())}


def measure(case: Case, rows: int) -> Iterator[dict[str, Any]]:
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
    """A result as one row of the table that is printed."""
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


def main(_: list[str]) -> None:
    results = []
    warnings.simplefilter('ignore')  # "a newer version exists": the data's version counts
    logging.set_verbosity(logging.WARNING)
    print(
        f'{"case":22} {"rows":5} {"from":6}{"simulator":33}{"dims":7}{"N":>5} '
        + ' '.join(f'{name:>8}' for name in (*SUMMARY, 'rel.', 'rel.99%', 'rel.max'))
    )
    for case in cases():
        if _ONLY.value and case.name not in _ONLY.value:
            continue
        for result in measure(case, _ROWS.value):
            results.append(result)
            print(line(result), flush=True)
            dims = result.get('obs_action_dims')
            if dims and dims['simulator'] != dims['data']:
                raise SystemExit(f'{case.name}: sizes differ: {dims}')
    if _OUT.value:
        versions = {'mujoco': mujoco.__version__, 'gymnasium': gym.__version__}
        report = {**machine(), **versions, 'results': results}
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
