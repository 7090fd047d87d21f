import math

import pytest

from dtql_jax.report import plots
from dtql_jax.types import UserError
from tests.helpers.run_files import assert_is_a_chart, write, write_run


def test_plot_curves__draws_a_run(tmp_path):
    path = plots.plot_curves(write_run(tmp_path / 'run'), behaviour=58.0)
    assert path == tmp_path / 'run' / 'curves.png'
    assert_is_a_chart(path)


@pytest.mark.parametrize('present', ['metrics.jsonl', 'eval.jsonl'])
def test_plot_curves__draws_a_run_that_has_just_begun(tmp_path, present):
    run_dir = write_run(tmp_path / 'run')
    for path in run_dir.iterdir():
        if path.name != present:
            path.write_text('')
    assert_is_a_chart(plots.plot_curves(run_dir))


def test_plot_curves__draws_one_point_of_one_seed_and_a_diverged_one(tmp_path):
    rows = [{'step': 10, 'seed': 0, 'eval/score': 1.0}, {'step': 10, 'seed': 1, 'eval/score': None}]
    write(tmp_path, 'eval.jsonl', [*rows, {'step': 20, 'seed': 1, 'eval/score': math.nan}])
    assert_is_a_chart(plots.plot_curves(tmp_path))


def test_plot_curves__leaves_out_failed_evaluations(tmp_path):
    failed = {'step': 20, 'seed': 0, 'eval/failed': 'a reason'}
    write(tmp_path, 'eval.jsonl', [failed])
    assert_is_a_chart(plots.plot_curves(tmp_path))
    assert_is_a_chart(plots.plot_runs([tmp_path], tmp_path / 'out.png'))
    rows = [failed, {'step': 20, 'seed': 1, 'eval/score': 4.0}]
    assert plots._lines(rows, 'eval/score') == {'policy': {1: [(20, 4.0)]}}
    write(tmp_path, 'eval.jsonl', rows)
    assert_is_a_chart(plots.plot_curves(tmp_path))


def test_plot_curves__names_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r'no eval\.jsonl and no metrics\.jsonl'):
        plots.plot_curves(tmp_path)
    with pytest.raises(UserError, match=r'has no eval\.jsonl: name a run folder'):
        plots.plot_runs([tmp_path], tmp_path / 'out.png')


def test_plot_runs__says_that_a_run_was_not_evaluated(tmp_path):
    run = write_run(tmp_path / 'run')
    (run / 'eval.jsonl').write_text('')
    with pytest.raises(UserError, match=r'was not evaluated .*: leave it out'):
        plots.plot_runs([run], tmp_path / 'out.png')


def test_over_seeds__leaves_out_what_is_not_finite():
    seeds = {0: [(1, 1.0), (2, 2.0)], 1: [(1, 3.0), (2, math.nan)], 2: [(3, math.inf)]}
    steps, mean, low, high = plots._over_seeds(seeds)
    assert steps.tolist() == [1, 2]
    assert mean.tolist() == [2.0, 2.0]
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [3.0, 2.0])


def test_panel_keys__are_the_main_metrics_then_the_others():
    rows = [{'step': 1, 'seed': 0, 'time/s': 1.0, 'a/b': 1.0, 'pi/q': 1.0, 'critic/loss': 1.0}]
    assert plots._panel_keys(rows) == ['critic/loss', 'pi/q', 'a/b']


def test_labels__tell_runs_of_the_same_name_apart(tmp_path):
    assert plots._labels(['a/run', 'b/other']) == ['run', 'other']
    assert plots._labels(['a/run', 'b/run']) == ['a/run', 'b/run']


def test_plot_runs__draws_several_runs(tmp_path):
    runs = [write_run(tmp_path / 'one', ['dtql']), write_run(tmp_path / 'two')]
    out = tmp_path / 'out.png'
    assert plots.plot_runs(runs, out, behaviour=58.0) == out
    assert_is_a_chart(out)


@pytest.mark.parametrize('name', ['missing/out.png', 'out.unknown'])
def test_plot_runs__names_a_chart_that_cannot_be_written(tmp_path, name):
    with pytest.raises(UserError, match=f'cannot write the chart .*{name}'):
        plots.plot_runs([write_run(tmp_path / 'run')], tmp_path / name)


@pytest.mark.parametrize(
    'line', ['{}', '{"step":"x"}', '{"step":1,"seed":[]}', '{"step":true}', '[' * 100_000]
)
def test_plot_runs__a_line_that_is_no_row_is_named(tmp_path, line):
    run = write_run(tmp_path / 'run')
    (run / 'eval.jsonl').write_text(f'{line}\n')
    with pytest.raises(UserError, match=r'eval.jsonl, line 1 is (no row of a run|not a JSON)'):
        plots.plot_runs([run], tmp_path / 'out.png')


def test_plot_curves__marks_where_the_run_goes_on_in_the_environment(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, 'save', lambda figure, path: drawn.append(figure) or path)
    phases = ('pretrain', 'train', 'train', 'online')
    metrics = [
        {'step': 10 * i, 'seed': 0, 'phase': phase, 'a/b': 1.0} for i, phase in enumerate(phases, 1)
    ]
    write(tmp_path, 'metrics.jsonl', metrics)
    write(tmp_path, 'eval.jsonl', [{'step': s, 'seed': 0, 'eval/score': 1.0} for s in (30, 40)])
    plots.plot_curves(tmp_path)
    for axis in drawn[0].get_axes():
        assert [30, 30] in [list(line.get_xdata()) for line in axis.get_lines()]
    label = 'updates (shaded: pre-training; from the line on: in the environment)'
    assert drawn[0].get_axes()[0].get_xlabel() == label
    assert plots._switch(metrics[:3]) == plots._switch([]) == 0
