"""The small run that is killed, damaged and resumed, and the facts that it is judged by."""

import contextlib
import hashlib
import json
import os
import pathlib

from tools.campaign import toys

AGENT = pathlib.Path(__file__).with_name('line.py')
FLAGS = (
    '--env=walk', f'--agent={AGENT}:Line', '--num_seeds=2', '--batch_size=8', '--eval_episodes=2',
    '--pretrain_steps=2000', '--steps=6000', '--eval_every=1500',
    '--seed=1',
)  # fmt: skip
EVALUATED = (3500, 5000, 6500, 8000)  # steps of its evaluations
LAST = EVALUATED[-1]
LOGS = ('metrics', 'eval')


def prepare(folder: pathlib.Path) -> None:
    """Writes the data, and keeps caches in the folder. Call it before jax is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    for variable, name in {
        'JAX_COMPILATION_CACHE_DIR': 'compiled',
        'DTQL_DATA_CACHE': 'datasets',
        'MINARI_DATASETS_PATH': 'minari',
        'MPLCONFIGDIR': 'matplotlib',
    }.items():
        (folder / name).mkdir(exist_ok=True)
        os.environ[variable] = str(folder / name)
    os.environ |= {
        'JAX_PLATFORMS': 'cpu',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true',
    }
    if not (folder / 'data.hdf5').exists():
        toys.write_hdf5(folder / 'data.hdf5', toys.arrays())
    toys.register(folder / 'data.hdf5')


def preload() -> None:
    """Imports what a run imports, and starts no backend of jax."""
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import dtql_jax.cli.main
    import dtql_jax.runs.policy
    import dtql_jax.runs.run  # noqa: F401


def command(*arguments: str) -> int:
    """`dtql` with short intervals, in this process; returns the exit code."""
    from dtql_jax.cli.main import main
    from dtql_jax.training import loop

    for name, seconds in {'SAVE_SECONDS': 0.1, 'DISPATCH_SECONDS': 0.05}.items():
        assert hasattr(loop, name)
        setattr(loop, name, seconds)
    return main(['dtql', *arguments])


def train(out: pathlib.Path, *flags: str) -> int:
    """The run, from its beginning or, where its folder exists, from its checkpoint."""
    again = ['--resume'] if out.exists() else []
    return command('train', f'--out={out}', *FLAGS, *again, *flags)


def rows(folder: pathlib.Path, log: str) -> list:
    """The rows of a log without their times; a damaged line as it is."""
    path = folder / f'{log}.jsonl'
    found = []
    for line in path.read_bytes().split(b'\n') if path.is_file() else []:
        with contextlib.suppress(ValueError, AttributeError):
            row = json.loads(line)
            line = {k: v for k, v in row.items() if not k.startswith('time/')}
        found.append(line if isinstance(line, dict) else repr(line))
    return found[:-1] if found[-1:] == [repr(b'')] else found


def facts(out: pathlib.Path) -> dict[str, str]:
    """The digests of all that a run is judged by: arrays, cursor, rows, table, settings."""
    import jax
    import numpy as np

    from dtql_jax.runs.policy import Run

    run = Run(out)
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(run.progress)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        found[f'array {jax.tree_util.keystr(path)}'] = _digest(
            f'{array.dtype} {array.shape}'.encode() + array.tobytes()
        )
    for name in ('step', 'evaluated', 'playing', 'counts', 'diverged'):
        found[f'cursor {name}'] = json.dumps(getattr(run.cursor, name))
    for log in LOGS:
        found[f'rows {log}'] = _digest(json.dumps(rows(out, log), sort_keys=True).encode())
    found['table'] = _digest((out / 'table.txt').read_bytes())
    config = json.loads((out / 'config.json').read_text())
    for name in ('request', 'identity', 'agent_file', 'agent_class', 'spec', 'data', 'format'):
        found[f'config {name}'] = _digest(json.dumps(config.get(name), sort_keys=True).encode())
    return found


def write_facts(out: pathlib.Path, to: pathlib.Path) -> int:
    """Writes the facts of a run as JSON; for a child, since this starts a backend of jax."""
    to.write_text(json.dumps(facts(out)))
    return 0


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """The names of the facts that differ."""
    return sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
