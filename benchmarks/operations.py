"""Where the time of DTQL's update goes: the device's operations, longest first.

  python benchmarks/operations.py [--dims=17/6 --batch_size=256 --seeds=1 --out=FILE]

jax's profiler traces the device while it trains. On a CPU an operation's time is that of the thread
that began it, waiting on several cores included; `taskset -c 0` gives clean shares.
"""

import collections
import pathlib
import re
import sys
import tempfile

import jax
from absl import flags
from measure import WALKER, Case, Report, TrainingTimer, make_flags, take_turns

from dtql_jax.cli.flags import define_whole, run_command

FLAGS = make_flags(blocks=3, block_seconds=0.5)
flags.DEFINE_string('dims', WALKER, 'observation and action sizes', FLAGS)
define_whole('batch_size', 256, 'batch size', FLAGS)
define_whole('seeds', 1, 'seeds trained at once', FLAGS)
define_whole('top', 20, 'operations to list', FLAGS)

# The lines of a trace that hold the device's operations: a GPU's streams, XLA's threads on a CPU.
OPERATIONS = re.compile(r'Stream|XLA Ops|XLAEigen|XLAPjRt|tf_XLA')


def times(folder: str) -> collections.Counter[str]:
    """Nanoseconds by operation, without the numbers at the end of names, which count its uses."""
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    by_name: collections.Counter[str] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            if OPERATIONS.search(line.name):
                for event in line.events:
                    if '::' not in event.name:  # else the runtime's, around operations
                        by_name[re.sub(r'[._]\d+$', '', event.name)] += event.duration_ns
    return by_name


def main(asked: flags.FlagValues) -> None:
    case = Case('dtql', asked.dims, asked.batch_size, asked.seeds)
    timer = TrainingTimer(case.engine(), asked.block_seconds)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            take_turns([timer], asked.blocks)
        by_name = times(folder)
    updates, together = asked.blocks * timer.timers['train'].length, sum(by_name.values())
    head = {'dims': asked.dims, 'batch_size': asked.batch_size, 'seeds': asked.seeds}
    report = Report(asked.out, **head)
    for name, ns in by_name.most_common(asked.top):
        cost = {'us_per_update': ns / updates / 1e3, 'share': ns / together}
        report.add({'operation': name, **cost})


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
