"""What a save costs: its digest, its reading back after the first one, the logs' digests, the lock.

  python benchmarks/saves.py [--seeds=1,8 --repeats=9 --out=FILE]

The state is that of DTQL at HalfCheetah's sizes with its default networks, that of a run which has
not begun. `save_s` is a save as a run makes it every two minutes, and `seal_s` the part of it that
takes SHA-256 over the arrays. `read_back_s` comes once, after the first save of a process.
`open_log_s` is the check of a log of `log_mb` at the start of a resume, `read_config_s` that of
`config.json` against the checkpoint, and `lock_s` taking and giving back the lock of the folder.
Each number is the median of `repeats`; the files lie in a temporary folder (`TMPDIR`).
"""

import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import measure
import numpy as np
from absl import flags
from measure import Case, Report

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.report.loggers import JsonlLog
from dtql_jax.runs.config_file import FORMAT
from dtql_jax.runs.folder import create_run, read_run
from dtql_jax.runs.forecast import tree_bytes
from dtql_jax.runs.lock import hold
from dtql_jax.training import checkpoint
from dtql_jax.training.progress import CHECKPOINTS, Cursor, fresh_progress
from dtql_jax.training.records import Records

FLAGS = measure.make_flags()
flags.DEFINE_list('seeds', ['1', '8'], 'numbers of seeds trained at once', FLAGS)
define_whole('repeats', 9, 'measurements of each number, of which the median counts', FLAGS)
define_whole('log_rows', 20_000, 'rows of the log', FLAGS)


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the median call; one call before does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def lock(run_dir: pathlib.Path) -> None:
    """Takes the lock of a run folder, checks it as a save does, and gives it back."""
    with hold(run_dir, print) as check:
        check()


def measured(seeds: int, asked: flags.FlagValues, run_dir: pathlib.Path) -> dict[str, float]:
    """The seconds of each part at a number of seeds."""
    engine = Case(seeds=seeds).engine()
    progress = fresh_progress(engine)
    create_run(run_dir, {'format': FORMAT})
    records = Records(run_dir, read_run(run_dir), engine, (), print)
    path, cursor, lane = run_dir / 'log.jsonl', Cursor(), {'step': 1000, 'critic/loss': 1 / 3}
    with JsonlLog(path) as log:
        for _ in range(asked.log_rows):
            log.write(lane)
        mark = log.flush(), log.digest

    def save() -> None:
        records.save(progress, cursor)

    with records.open(cursor):
        return {
            'seeds': seeds,
            'state_mb': tree_bytes(progress) / 1e6,
            'save_s': median_s(save, asked.repeats),
            'seal_s': median_s(lambda: checkpoint.seal(progress, {}), asked.repeats),
            'read_back_s': median_s(
                lambda: checkpoint.verify(run_dir / CHECKPOINTS, progress), asked.repeats
            ),
            'log_mb': mark[0] / 1e6,
            'open_log_s': median_s(lambda: JsonlLog(path, *mark).close(), asked.repeats),
            'read_config_s': median_s(lambda: read_run(run_dir), asked.repeats),
            'lock_s': median_s(lambda: lock(run_dir), asked.repeats),
        }


def main(asked: flags.FlagValues) -> None:
    report = Report(asked.out)
    with tempfile.TemporaryDirectory() as above:
        for seeds in map(int, asked.seeds):
            report.add(measured(seeds, asked, pathlib.Path(above, f'run-{seeds}')))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
