"""Compares runs: the mean score and its range over seeds, one line per run, in one chart.

python experiments/plot.py --runs=runs/a,runs/b --out=comparison.png
"""

import sys

from absl import app, flags

from dtql_jax.plots import plot_runs
from dtql_jax.types import UserError

RUNS = flags.DEFINE_list('runs', [], 'The folders of the runs, separated by commas.')
OUT = flags.DEFINE_string('out', 'comparison.png', 'The chart to write; its ending is its format.')
BEHAVIOUR = flags.DEFINE_float('behaviour', None, "The score of the data's policy, as a line.")


def main(argv: list[str]) -> None:
    """Draws the chart and prints its path; a mistake in the flags is one line and exit code 2."""
    try:
        if argv[1:]:
            raise UserError(f'unexpected {argv[1]!r}: name the runs as --runs=DIR,DIR.')
        if not RUNS.value:
            raise UserError('no runs to draw: name their folders as --runs=DIR,DIR.')
        print(plot_runs(RUNS.value, OUT.value, BEHAVIOUR.value))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    app.run(main)
