"""Where the time of DTQL's update goes: the device's operations, longest first.

  python benchmarks/top_kernels.py [--dims=17/6 --batch_size=256 --seeds=1 --out=FILE]

Traced with jax's profiler while the device trains. On a CPU an operation's time is that of the
thread that began it, which on several cores counts waiting too; `taskset -c 0` gives clean shares.
"""

import collections
import json
import pathlib
import re
import tempfile

import jax
from absl import app, flags
from measure import WALKER, TrainingTimer, machine, sizes, synthetic

from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.types import Lane, Spec

_DIMS = flags.DEFINE_string('dims', WALKER, 'observation and action sizes')
_BATCH = flags.DEFINE_integer('batch_size', 256, 'batch size')
_SEEDS = flags.DEFINE_integer('seeds', 1, 'seeds trained at once')
_TOP = flags.DEFINE_integer('top', 20, 'operations to list')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')

# The lines of a trace that hold the device's operations: a GPU's streams, XLA's threads on a CPU.
OPERATIONS = re.compile(r'Stream|XLA Ops|XLAEigen|XLAPjRt|tf_XLA')
BLOCKS = 3


def times(folder: str) -> collections.Counter:
    """Nanoseconds by operation; numbers at the end of a name, which count its uses, are dropped."""
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    by_name: collections.Counter = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            if OPERATIONS.search(line.name):
                for event in line.events:
                    if '::' in event.name:  # of the runtime, and of all that runs inside
                        continue
                    by_name[re.sub(r'[._]\d+$', '', event.name)] += event.duration_ns
    return by_name


def main(_: list[str]) -> None:
    agent = DTQL(Spec(*sizes(_DIMS.value)), Config(batch_size=_BATCH.value))
    lanes = [Lane('dtql', seed) for seed in range(_SEEDS.value)]
    timer = TrainingTimer(agent, synthetic(_DIMS.value), lanes, block_s=0.5)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(BLOCKS):
                timer.block()
        by_name = times(folder)
    updates, together = BLOCKS * timer.updates['train'], sum(by_name.values())
    rows = [
        {'operation': name, 'us_per_update': ns / updates / 1e3, 'share': ns / together}
        for name, ns in by_name.most_common(_TOP.value)
    ]
    print(f'obs/action {_DIMS.value}, batch {_BATCH.value}, {_SEEDS.value} seeds')
    for row in rows:
        print(f'{row["us_per_update"]:10.1f} us {row["share"]:7.1%}  {row["operation"][:80]}')
    if _OUT.value:
        report = {**machine(), 'dims': _DIMS.value, 'batch_size': _BATCH.value}
        report |= {'seeds': _SEEDS.value, 'results': rows}
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
