"""Compares runs in one chart, or draws the trust region of one.

  dtql plot --runs=runs/a,runs/b --out=comparison.png
  dtql plot --plot_trust=runs/a --state=1000 --dims=0,1 --out=trust.png

With --runs a line is the mean score over seeds of a variant of a run; its band is the range from
the lowest seed to the highest. With --plot_trust the picture shows the trust region's loss over two
dimensions of the action at one state of the data, for runs of dtql, dql_kl and bc.

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains.
"""

from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.flags import define_whole, given, run_command
from dtql_jax.types import UserError, user_path

FLAGS = flags.FlagValues()
flags.DEFINE_list('runs', [], 'folders of the runs, separated by commas', FLAGS)
flags.DEFINE_string('out', 'comparison.png', 'the chart to write; its ending is its format', FLAGS)
flags.DEFINE_float(
    'behaviour', None, "score of the data's policy, drawn as a line", flag_values=FLAGS
)
flags.DEFINE_string('plot_trust', None, 'folder of the run whose trust region is drawn', FLAGS)
define_whole('seed', None, 'with --plot_trust, the seed; the first one without', FLAGS)
define_whole('state', 0, 'with --plot_trust, the row of the data whose state it is', FLAGS)
flags.DEFINE_list('dims', ['0', '1'], 'with --plot_trust, two dimensions of the action', FLAGS)

OF_RUNS, OF_TRUST = ('runs', 'behaviour'), ('seed', 'state', 'dims')


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the chart and prints its path; returns the exit code."""
    return run_command(plot, FLAGS, __doc__, argv)


def plot(asked: flags.FlagValues) -> None:
    """Draws the chart that the flags ask for."""
    of_trust = asked.plot_trust is not None
    for name in given(asked, OF_RUNS if of_trust else OF_TRUST):
        raise UserError(
            f'`{name}` is not for the chart of {"a trust region" if of_trust else "runs"}: '
            'leave it out'
        )
    out = user_path('out', asked.out)
    if of_trust:
        from dtql_jax.runs.trust import plot_trust

        if not all(dim.strip().isdecimal() for dim in asked.dims):
            raise UserError(f'`dims`={",".join(asked.dims)}: give two whole numbers, such as 0,1')
        dims = [int(dim) for dim in asked.dims]
        print(plot_trust(asked.plot_trust, out, asked.seed, asked.state, dims))
        return
    from dtql_jax.report.plots import plot_runs

    if not asked.runs:
        raise UserError('no runs to draw: name their folders as --runs=DIR,DIR')
    runs = [user_path('runs', run) for run in asked.runs]
    print(plot_runs(runs, out, asked.behaviour))
