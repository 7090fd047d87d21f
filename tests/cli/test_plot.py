"""`dtql plot`."""

from dtql_jax.cli import plot
from tests.helpers.run_files import assert_is_a_chart, write_run
from tests.helpers.small_runs import ROOT, process, refused


def test_main__mistakes(capsys):
    assert 'no runs to draw' in refused(capsys, plot.main)
    error = refused(capsys, plot.main, '--behaviour=high')
    assert error == '--behaviour=high: not a number'
    error = refused(capsys, plot.main, '--runs=nowhere')
    assert error.startswith('nowhere has no eval.jsonl: name a run folder')
    assert refused(capsys, plot.main, '--runs="a') == '--runs="a: not a list: A,B or "A,",B'


def test_main__draws_the_runs_and_prints_the_chart(tmp_path):
    """As a script, in a process of its own."""
    runs = [write_run(tmp_path / 'one', ['dtql']), write_run(tmp_path / 'two', ['dtql'])]
    out = tmp_path / 'out.png'
    script = ROOT / 'experiments' / 'plot.py'
    result = process(script, f'--runs={runs[0]},{runs[1]}', f'--out={out}')
    assert (result.returncode, result.stdout) == (0, f'{out}\n')
    assert_is_a_chart(out)


def test_main__draws_runs_whatever_their_format(here, capsys):
    """A chart needs the log of evaluations alone, so that runs of earlier versions are drawn."""
    for name in 'ab':
        write_run(here / name, ['dtql'])
        (here / name / 'config.json').write_text('{"identity": {"config.alpha": 1.0}}')
    assert plot.main(['dtql plot', '--runs=a,b', '--out=chart.png', '--behaviour=1.5']) == 0
    assert capsys.readouterr().out == 'chart.png\n'
    assert_is_a_chart(here / 'chart.png')
