"""Loading a dataset: seconds until it is on the device, cold and from the cache, and peak memory.

  python benchmarks/loading.py                         # a million synthetic transitions
  python benchmarks/loading.py --transitions=1e5 --dataset_path=DIR/mujoco/hopper/medium-v0

The synthetic sets have HalfCheetah's shape (observation 17, action 6, episodes of 1000 steps): a
Minari set with float64 observations, as Minari records them, and a gzipped hdf5 of D4RL's layout
with `next_observations`. --dataset_path adds a Minari set of yours.

Each load has a fresh process. Its seconds run from `load` to the moment when the arrays are on the
device: reading, checks, card, writing the cache (cold) or verifying it (second), `Engine`. Imports
and the start of jax's backend come before. The files have just been written, so the system's page
cache holds them. Memory is the peak of the resident set (VmHWM, Linux only) above what is resident
just before `load`, over the float32 size of the transitions; on a CPU it includes the device's
buffers.
"""

import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import gymnasium as gym
import h5py
import jax
import measure
import minari
import numpy as np
from absl import flags
from minari.data_collector import EpisodeBuffer

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.data.cache import VARIABLE
from dtql_jax.data.load import load, with_dataset
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane

FLAGS = measure.make_flags()
define_whole('transitions', 1_000_000, 'transitions of the synthetic sets', FLAGS)
flags.DEFINE_string('dataset_path', None, 'folder of a Minari set to load as well', FLAGS)
define_whole('repeats', 3, 'processes for each number, of which the median counts', FLAGS)
flags.DEFINE_string('child', None, 'used by the script itself', FLAGS)

TASK, DATASET = 'halfcheetah-medium', 'synthetic/halfcheetah-v0'
OBS_DIM, ACTION_DIM = measure.sizes(measure.WALKER)
EPISODE = 1000


def episodes(transitions: int) -> Iterator[EpisodeBuffer]:
    """Episodes of normal observations and uniform actions."""
    rng = np.random.default_rng(0)
    for start in range(0, transitions, EPISODE):
        length = min(EPISODE, transitions - start)
        yield EpisodeBuffer(
            observations=rng.normal(size=(length + 1, OBS_DIM)),
            actions=rng.uniform(-1, 1, (length, ACTION_DIM)).astype(np.float32),
            rewards=rng.normal(size=length),
            terminations=np.zeros(length, bool),
            truncations=np.arange(1, length + 1) == length,
            infos={},
        )


def write_minari(root: pathlib.Path, transitions: int) -> pathlib.Path:
    """A Minari set; its folder."""
    os.environ['MINARI_DATASETS_PATH'] = str(root)
    about = ('algorithm_name', 'author', 'author_email', 'code_permalink', 'description')
    minari.create_dataset_from_buffers(
        DATASET,
        list(episodes(transitions)),
        observation_space=gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64),
        action_space=gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32),
        **dict.fromkeys(about, 'synthetic'),
    )
    return root / DATASET


def write_d4rl(root: pathlib.Path, transitions: int) -> pathlib.Path:
    """The same transitions as a file of D4RL's layout."""
    parts = list(episodes(transitions))
    columns = {
        'observations': [part.observations[:-1] for part in parts],
        'next_observations': [part.observations[1:] for part in parts],
        'actions': [part.actions for part in parts],
        'rewards': [part.rewards for part in parts],
        'terminals': [part.terminations for part in parts],
        'timeouts': [part.truncations for part in parts],
    }
    path = root / 'synthetic-v2.hdf5'
    with h5py.File(path, 'w') as file:
        for name, column in columns.items():
            array = np.concatenate(column)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            file.create_dataset(name, data=array, compression='gzip')
    return path


def load_here(path: str) -> dict[str, float]:
    """Loads the set in this fresh process; seconds and bytes."""
    plan = make_plan(make_request({'env': TASK, 'agent': 'dtql'}))
    jax.block_until_ready(jax.device_put(np.zeros(1)))
    before = measure.forget_peak()
    began = time.perf_counter()
    dataset = load(with_dataset(plan.task, path))
    loaded = time.perf_counter()
    agent = plan.agent(dataset.spec, plan.config)
    engine = Engine(agent, dataset.transitions, [Lane('', 0)])
    jax.block_until_ready(engine.data)
    return {
        'transitions': len(dataset.transitions.reward),
        'seconds': time.perf_counter() - began,
        'of_which_load_s': loaded - began,
        'peak_bytes': measure.resident('VmHWM') - before,
        'float32_bytes': sum(array.nbytes for array in dataset.transitions[:5]),
    }


def add_loads(report: measure.Report, name: str, path: pathlib.Path, repeats: int) -> None:
    """Adds the rows of a set: the first load, and the second, which the cache serves."""
    pairs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            environment = {VARIABLE: cache}
            pairs.append([measure.in_child([f'--child={path}'], **environment) for _ in range(2)])
    for when, found in zip(('cold', 'second'), zip(*pairs, strict=True), strict=True):
        medians = {key: float(np.median([one[key] for one in found])) for key in found[0]}
        over = medians['peak_bytes'] / medians['float32_bytes']
        medians['transitions'] = int(medians['transitions'])
        report.add({'data': name, 'load': when, **medians, 'peak_over_float32': over})


def main(asked: flags.FlagValues) -> None:
    if asked.child:
        measure.answer(load_here(asked.child))
        return
    report = measure.Report(asked.out, repeats=asked.repeats)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, write in (('minari', write_minari), ('d4rl', write_d4rl)):
            add_loads(report, name, write(root, asked.transitions), asked.repeats)
    if asked.dataset_path:
        add_loads(report, 'given', pathlib.Path(asked.dataset_path), asked.repeats)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
