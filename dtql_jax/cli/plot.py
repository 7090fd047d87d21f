"""Compares runs in one chart: a line for each variant of each run.

  dtql plot --runs=runs/a,runs/b --out=comparison.png

A line is the mean score over seeds; its band is the range from the lowest seed to the highest.

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains.
"""

from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.flags import run_command
from dtql_jax.types import UserError, user_path

FLAGS = flags.FlagValues()
flags.DEFINE_list('runs', [], 'folders of the runs, separated by commas', FLAGS)
flags.DEFINE_string('out', 'comparison.png', 'the chart to write; its ending is its format', FLAGS)
flags.DEFINE_float(
    'behaviour', None, "score of the data's policy, drawn as a line", flag_values=FLAGS
)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the chart and prints its path; returns the exit code."""
    return run_command(plot, FLAGS, __doc__, argv)


def plot(asked: flags.FlagValues) -> None:
    """Draws the chart that the flags ask for."""
    from dtql_jax.report.plots import plot_runs

    if not asked.runs:
        raise UserError('no runs to draw: name their folders as --runs=DIR,DIR')
    runs = [user_path('runs', run) for run in asked.runs]
    print(plot_runs(runs, user_path('out', asked.out), asked.behaviour))
