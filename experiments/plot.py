"""Compares runs: the mean score and its range over seeds, one line per run, in one chart.

python experiments/plot.py --runs=runs/a,runs/b --out=comparison.png
"""

import sys

from absl import flags

from dtql_jax.command_line import run_script

FLAGS = flags.FlagValues()
flags.DEFINE_list('runs', [], 'folders of the runs, separated by commas', FLAGS)
flags.DEFINE_string('out', 'comparison.png', 'the chart to write; its ending is its format', FLAGS)
flags.DEFINE_float(
    'behaviour', None, "score of the data's policy, drawn as a line", flag_values=FLAGS
)


def main(argv: list[str] | None = None) -> int:
    """Draws the chart and prints its path; returns the exit code."""
    return run_script(plot, FLAGS, __doc__, argv)


def plot(asked: flags.FlagValues) -> None:
    from dtql_jax.plots import plot_runs
    from dtql_jax.types import UserError

    if not asked.runs:
        raise UserError('no runs to draw: name their folders as --runs=DIR,DIR')
    print(plot_runs(asked.runs, asked.out, asked.behaviour))


if __name__ == '__main__':
    sys.exit(main())
