"""The sections on the course of training, by hand."""

import re

import numpy as np

from dtql_jax.report.formats import Table
from dtql_jax.report.page import Charts, Note
from dtql_jax.studies import report_training
from dtql_jax.studies.report_lanes import gather
from dtql_jax.studies.report_training import curves, stability, sweeps
from dtql_jax.studies.results import read_runs
from tests.helpers.report_runs import noisy, write_run

HOPPER, WALKER = 'hopper-medium-v2', 'walker2d-medium-v2'


def charts_of(section):
    (charts,) = (part for part in section.parts if isinstance(part, Charts))
    return charts


def texts(chart):
    return re.findall(r'<text[^>]*>([^<]*)</text>', chart)


def test_curves__a_chart_for_each_task_with_the_score_of_the_data(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER)
    write_run(tmp_path / 'b', noisy(0, 2), env=WALKER)
    write_run(tmp_path / 'c', [[], []], env='halfcheetah-medium-v2')
    charts = charts_of(curves(gather('s', read_runs(tmp_path))))
    assert len(charts.charts) == 2
    assert f'{HOPPER} (data 40.0)' in texts(charts.charts[0])
    assert '</svg>dtql</li>' in charts.legend


def test_curves__mark_where_an_agent_goes_on_in_the_environment(tmp_path, monkeypatch):
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER, end=2000, online_steps=1000)
    write_run(tmp_path / 'b', noisy(0, 2), env=HOPPER, end=2000, agent='iql')
    drawn = []
    monkeypatch.setattr(report_training, 'line_chart', lambda *given: drawn.append(given) or '')
    curves(gather('s', read_runs(tmp_path)))
    assert [line.mark for line in drawn[0][3]] == [2000, None]


def test_curves__without_evaluations_there_are_none(tmp_path):
    write_run(tmp_path / 'a', [[], []], env=HOPPER)
    results = gather('s', read_runs(tmp_path))
    assert (curves(results), stability(results)) == (None, None)


def test_curves__says_what_it_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setattr(report_training, 'MOST_PANELS', 1)
    monkeypatch.setattr(report_training, 'MOST_CURVES', 1)
    for i, task in enumerate((HOPPER, WALKER)):
        write_run(tmp_path / f'low{i}', noisy(0, 2, mean=10), env=task)
        write_run(tmp_path / f'top{i}', noisy(0, 2, mean=90), env=task, agent='iql')
    section = curves(gather('s', read_runs(tmp_path)))
    notes = [part.text for part in section.parts if isinstance(part, Note)]
    assert len(charts_of(section).charts) == 1
    assert any(f'Left out: {WALKER}.' in note for note in notes)
    assert any('Left out: dtql.' in note for note in notes)


def test_sweeps__a_chart_for_each_setting_and_task(tmp_path):
    values = {f'alpha={a:g}': {'alpha': a} for a in (0.01, 0.1, 1.0)}
    write_run(tmp_path / 'a', noisy(0, 6), env=HOPPER, variants=values)
    for act in ('relu', 'mish'):
        flags = {'env': WALKER, 'policy_activation': act}
        write_run(tmp_path / act, noisy(1, 2), **flags)
    charts = charts_of(sweeps(gather('s', read_runs(tmp_path)))).charts
    assert len(charts) == 2
    first, second = map(texts, charts)
    assert {'alpha', '0.01', '0.1', '1', HOPPER} <= set(first)
    assert {'policy_activation', 'mish', 'relu', WALKER} <= set(second)


def test_sweeps__none_where_nothing_was_varied(tmp_path):
    for i, task in enumerate((HOPPER, WALKER)):
        write_run(tmp_path / f'{i}', noisy(i, 2), env=task, alpha=1.0 + i)
    assert sweeps(gather('s', read_runs(tmp_path))) is None


def test_stability__by_hand(tmp_path):
    lane = [[value, value] for value in (100, 0, 10, 20, 30, 40)]
    scores = [lane, [[5, 5], 'failed', [5, 5]]]
    write_run(tmp_path / 'a', scores, env=HOPPER)
    section = stability(gather('s', read_runs(tmp_path)))
    ((task, agent, *cells),) = next(p for p in section.parts if isinstance(p, Table)).rows
    # The first seed's last five are 0, 10, 20, 30, 40; the second's are 5, 5.
    deviation = np.std([0, 10, 20, 30, 40], ddof=1)
    assert (task, agent) == (HOPPER, 'dtql')
    assert cells == ['2', f'{deviation / 2:.1f}', f'{deviation:.1f}', '20.0', '30.0']
