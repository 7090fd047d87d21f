"""Writes the report of a study or of any runs: one HTML page, and its tables in other formats.

  dtql report --study=studies/NAME
  dtql report --runs=runs/a,runs/b --out=comparison

The page needs nothing else: no network, no other file. It has scores with intervals, comparisons,
learning curves, settings, the cost of selecting the best policy, failures, times, published numbers
with their sources, and the commands that repeat each run. Beside it are tables.md, tables.tex and a
CSV file for each table. A study that is in progress is reported as far as it is.

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains.
"""

from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.flags import run_command
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string('study', None, 'the folder of the study', FLAGS)
flags.DEFINE_list('runs', [], 'instead: folders of runs, separated by commas', FLAGS)
flags.DEFINE_string(
    'out', None, "the folder to write (default: the study's folder `report`)", FLAGS
)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report and prints the page's path; returns the exit code."""
    return run_command(report, FLAGS, __doc__, argv)


def report(asked: flags.FlagValues) -> None:
    """Writes the report that the flags ask for."""
    from dtql_jax.studies.report import report_runs, report_study

    if (asked.study is None) == (not asked.runs):
        raise UserError('name either a study as --study=DIR or runs as --runs=DIR,DIR')
    if asked.study is not None:
        print(report_study(asked.study, asked.out))
    else:
        if asked.out is None:
            raise UserError('name the folder to write: add --out=DIR')
        print(report_runs(asked.runs, asked.out))
