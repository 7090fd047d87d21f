"""`dtql plot`."""

from dtql_jax.cli import plot
from tests.helpers.small_runs import refused


def test_main__mistakes(capsys):
    assert 'no runs to draw' in refused(capsys, plot.main)
    error = refused(capsys, plot.main, '--behaviour=high')
    assert error == '--behaviour=high: not a number'
    assert 'nowhere has no evaluations' in refused(capsys, plot.main, '--runs=nowhere')


def test_main__draws_runs_whatever_their_format(here, capsys):
    """A chart needs the log of evaluations alone, so that runs of earlier versions are drawn."""
    for name in 'ab':
        (here / name).mkdir()
        (here / name / 'config.json').write_text('{"identity": {"config.alpha": 1.0}}')
        (here / name / 'eval.jsonl').write_text(
            '{"step": 2, "seed": 0, "variant": "dtql", "eval/score": 1.0}\n'
            '{"step": 4, "seed": 0, "variant": "dtql", "eval/score": 2.0}\n'
        )
    assert plot.main(['dtql plot', '--runs=a,b', '--out=chart.png', '--behaviour=1.5']) == 0
    assert capsys.readouterr().out == 'chart.png\n'
    assert (here / 'chart.png').read_bytes().startswith(b'\x89PNG')
