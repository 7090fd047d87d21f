"""Loading a dataset: seconds until it is on the device, cold and from the cache, and peak memory.

  python benchmarks/loading.py                         # a million synthetic transitions
  python benchmarks/loading.py --transitions=1e5 --dataset_path=DIR/mujoco/hopper/medium-v0

The synthetic sets have HalfCheetah's shape (observation 17, action 6, episodes of 1000 steps): a
Minari set with float64 observations, as Minari records them, and a gzipped hdf5 of D4RL's layout
with `next_observations`. `--dataset_path` adds a Minari set of yours.

Each load has a fresh process. Its seconds run from `load` to the arrays' being ready on the device:
reading, checks, card, the cache's writing (cold) or verification (second), `Engine`. The imports
and the start of jax's backend come before. Files have just been written, so that they come from the
system's page cache. Memory is the peak of the resident set (VmHWM, which Linux alone tells) above
what is resident just before `load`, over the float32 size of the transitions; on a CPU the device's
buffers are in it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import gymnasium as gym
import h5py
import jax
import minari
import numpy as np
from absl import app, flags
from measure import WALKER, machine, sizes
from minari.data_collector import EpisodeBuffer

from dtql_jax.agents.registry import AGENTS
from dtql_jax.data import load
from dtql_jax.data.cache import VARIABLE
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane

_TRANSITIONS = flags.DEFINE_float('transitions', 1e6, 'transitions of the synthetic sets')
_DATA = flags.DEFINE_string('dataset_path', None, 'folder of a Minari set to load as well')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'processes for each number: the median is told')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')
_CHILD = flags.DEFINE_string('child', None, '(internal) load this set in this process')

TASK = 'halfcheetah-medium'
EPISODE = 1000


def episodes(transitions: int) -> Iterator[EpisodeBuffer]:
    """Episodes of normal observations and uniform actions."""
    rng, (obs_dim, action_dim) = np.random.default_rng(0), sizes(WALKER)
    for start in range(0, transitions, EPISODE):
        length = min(EPISODE, transitions - start)
        yield EpisodeBuffer(
            observations=rng.normal(size=(length + 1, obs_dim)),
            actions=rng.uniform(-1, 1, (length, action_dim)).astype(np.float32),
            rewards=rng.normal(size=length),
            terminations=np.zeros(length, bool),
            truncations=np.arange(1, length + 1) == length,
            infos={},
        )


def write_minari(root: pathlib.Path, transitions: int) -> pathlib.Path:
    """A Minari set; its folder."""
    os.environ['MINARI_DATASETS_PATH'] = str(root)
    obs_dim, action_dim = sizes(WALKER)
    minari.create_dataset_from_buffers(
        'synthetic/halfcheetah-v0',
        list(episodes(transitions)),
        observation_space=gym.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float64),
        action_space=gym.spaces.Box(-1, 1, (action_dim,), np.float32),
        algorithm_name='none',
        author='nobody',
        author_email='none',
        code_permalink='none',
        description='normal observations, uniform actions',
    )
    return root / 'synthetic' / 'halfcheetah-v0'


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


def as_child(path: str) -> dict[str, float]:
    """Loads the set in this process, which is fresh; seconds and bytes."""
    plan = make_plan(make_request({'env': TASK, 'agent': 'dtql'}))
    jax.block_until_ready(jax.device_put(np.zeros(1)))
    before = _restart_peak()
    began = time.perf_counter()
    dataset = load(plan.task, dataset_path=path)
    loaded = time.perf_counter()
    agent = AGENTS['dtql'].agent(dataset.spec, plan.config)
    engine = Engine(agent, dataset.transitions, [Lane('', 0)])
    jax.block_until_ready(engine.data)
    seconds = time.perf_counter() - began
    return {
        'transitions': len(dataset.transitions.reward),
        'seconds': seconds,
        'of_which_load_s': loaded - began,
        'peak_bytes': _resident('VmHWM') - before,
        'float32_bytes': sum(array.nbytes for array in dataset.transitions),
    }


def _restart_peak() -> int:
    """Forgets the peak so far; the bytes that are resident now."""
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    return _resident('VmRSS')


def _resident(field: str) -> int:
    status = pathlib.Path('/proc/self/status').read_text()
    return 1024 * int(re.search(rf'^{field}:\s+(\d+) kB', status, re.MULTILINE)[1])


def child(path: pathlib.Path, cache: str) -> dict[str, float]:
    """What `as_child` measures in a process whose cache is the folder `cache`."""
    command = [sys.executable, __file__, f'--child={path}']
    environment = {**os.environ, VARIABLE: cache}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, path: pathlib.Path) -> list[dict]:
    """Rows of a set: the first load, and the second, which the cache serves."""
    pairs = []
    for _ in range(_REPEATS.value):
        with tempfile.TemporaryDirectory() as cache:
            pairs.append([child(path, cache), child(path, cache)])
    rows = []
    for when, found in zip(('cold', 'second'), zip(*pairs, strict=True), strict=True):
        row = {'data': name, 'load': when}
        row |= {key: float(np.median([one[key] for one in found])) for key in found[0]}
        row['transitions'] = int(row['transitions'])
        row['peak_over_float32'] = row['peak_bytes'] / row['float32_bytes']
        rows.append(row)
        print(
            f'{name:8}{row["transitions"]:12,}  {when:8}{row["seconds"]:8.2f} s'
            f'{row["peak_over_float32"]:8.2f} x',
            flush=True,
        )
    return rows


def main(_: list[str]) -> None:
    if _CHILD.value:
        print(json.dumps(as_child(_CHILD.value)))
        return
    print('data     transitions  load       on device    peak memory / float32 size', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root, transitions = pathlib.Path(folder), int(_TRANSITIONS.value)
        rows = measure('minari', write_minari(root, transitions))
        rows += measure('d4rl', write_d4rl(root, transitions))
    if _DATA.value:
        rows += measure('given', pathlib.Path(_DATA.value))
    if _OUT.value:
        report = {**machine(), 'repeats': _REPEATS.value, 'results': rows}
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
