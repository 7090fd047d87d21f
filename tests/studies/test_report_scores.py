"""The sections on scores: numbers by hand, and what a reader must know about them."""

import dataclasses

import numpy as np
import pytest

from dtql_jax.report.formats import Table
from dtql_jax.report.page import Charts, Note
from dtql_jax.studies.report_lanes import gather
from dtql_jax.studies.report_scores import (
    aggregate,
    complete_agents,
    improvement,
    join,
    profiles,
    scored_tasks,
    scores,
    spread,
)
from dtql_jax.studies.results import read_runs
from tests.helpers.report_runs import write_run

HOPPER, WALKER, MINARI = 'hopper-medium-v2', 'walker2d-medium-v2', 'hopper-medium'


def lanes(values, before=99.0):
    """Scores for `write_run`: an evaluation with `before`, and the last one."""
    return [[[before] * 2, [value] * 2] for value in values]


def gathered(tmp_path, runs):
    for i, (task, agent, values) in enumerate(runs):
        flags = {'env': task, 'agent': agent, 'num_seeds': len(values)}
        write_run(tmp_path / f'run{i}', lanes(values), **flags)
    return gather('s', read_runs(tmp_path))


def cells(section, name):
    (table,) = (part for part in section.parts if isinstance(part, Table) and part.name == name)
    return [[str(cell) for cell in row] for row in table.rows]


def test_scores__last_and_best_are_apart(tmp_path):
    results = gathered(tmp_path, [(HOPPER, 'dtql', [40, 50]), (HOPPER, 'iql', [1, 2, 3, 4, 5])])
    section = scores(results)
    first, second = cells(section, 'scores')
    assert first[:6] == [HOPPER, 'dtql', '2 of 2', '40.0 50.0', '45.0', '99.0 99.0']
    assert second[3].startswith('3.0 [')
    assert second[5] == '99.0 [99.0, 99.0]'
    assert first[6] == '–'
    assert 'biased upwards' in ' '.join(p.text for p in section.parts if isinstance(p, Note))


def test_scores__published_numbers_are_those_of_the_same_method_and_data(tmp_path):
    runs = [(HOPPER, 'dtql', [1, 2]), (HOPPER, 'dql_kl', [1, 2]), (MINARI, 'dtql', [1, 2])]
    rows = cells(scores(gathered(tmp_path, runs)), 'scores')
    assert [row[7] for row in rows] == ['99.6 (?)', '–', '–']


def test_scores__unknown_seeds_are_counted_and_never_0(tmp_path):
    write_run(tmp_path / 'a', [[[5, 7]], ['broken'], []], env=HOPPER, num_seeds=3)
    (row,) = cells(scores(gather('s', read_runs(tmp_path))), 'scores')
    assert row[2:6] == ['1 of 3', '6.0 – –', '6.0', '6.0 – –']


def test_scores__the_same_lane_twice_is_told(tmp_path):
    for name in 'ab':
        write_run(tmp_path / name, lanes([1, 2]), env=HOPPER)
    section = scores(gather('s', read_runs(tmp_path)))
    (grave,) = (part for part in section.parts if isinstance(part, Note) and part.grave)
    assert '2 lanes have the same task, agent and seed' in grave.text
    assert cells(section, 'scores')[0][2] == '2 of 2'


RUNS = [
    (HOPPER, 'dtql', [10, 20, 30, 40]),
    (WALKER, 'dtql', [50, 60, 70, 80]),
    (HOPPER, 'iql', [1, 2, 3, 4]),
    (WALKER, 'iql', [5, 6, 7, 8]),
    (HOPPER, 'bc', [90, 90]),
]


def test_aggregate__by_hand(tmp_path):
    section = aggregate(gathered(tmp_path, RUNS))
    rows = {row[0]: row[1:] for row in cells(section, 'aggregate')}
    # The middle four of eight: 30, 40, 50, 60.
    assert rows['dtql'][:3] == ['2 of 2', '8', '45.0']
    assert rows['dtql'][4] == '45.0'
    low, high = map(float, rows['dtql'][3].strip('[]').split(', '))
    assert 30 <= low < 45 < high <= 60
    assert rows['bc'] == ['1 of 2', '2', '90.0', '–', '90.0']
    (charts,) = (part for part in section.parts if isinstance(part, Charts))
    assert '>dtql<' in charts.charts[0]
    assert '>bc<' not in charts.charts[0]  # which lacks a task


def test_aggregate__one_task_has_none(tmp_path):
    assert aggregate(gathered(tmp_path, RUNS[:1])) is None


def test_complete_agents__the_best_first_and_none_that_lacks_a_task(tmp_path):
    results = gathered(tmp_path, RUNS)
    assert complete_agents(results, scored_tasks(results)) == ['dtql', 'iql']


def test_improvement__by_hand(tmp_path):
    ((ours, theirs, chance, interval, verdict),) = cells(
        improvement(gathered(tmp_path, RUNS)), 'improvement'
    )
    assert (ours, theirs, chance, interval, verdict) == (
        'dtql',
        'iql',
        '1.00',
        '[1.00, 1.00]',
        'better',
    )
    assert improvement(gathered(tmp_path / 'one', RUNS[:2])) is None


@pytest.mark.parametrize('count', [1, 2])
def test_intervals__none_where_a_task_has_too_few_seeds(count, tmp_path):
    tasks = (HOPPER, WALKER, 'halfcheetah-medium-v2', 'hopper-expert-v2', 'walker2d-expert-v2')
    good, bad = [90.0, 91.0][:count], [1.0, 2.0][:count]
    runs = [(task, *agent) for task in tasks for agent in (('dtql', good), ('iql', bad))]
    results = gathered(tmp_path, runs)
    rows = cells(aggregate(results), 'aggregate')
    assert [row[4] for row in rows] == ['–', '–']
    ((*_, chance, interval, verdict),) = cells(improvement(results), 'improvement')
    assert (chance, interval, verdict) == ('1.00', '–', 'undecided: too few seeds')


def test_scores__success_is_that_of_seeds_with_a_last_score(tmp_path):
    write_run(tmp_path / 'a', lanes([1, 2]), env=HOPPER)
    results = gather('s', read_runs(tmp_path))
    one, other = (dataclasses.replace(lane, success=0.5) for lane in results.lanes)
    gone = dataclasses.replace(other, success=0.0, diverged_at=9)
    results = dataclasses.replace(results, lanes=[one, gone])
    assert cells(scores(results), 'scores')[0][6] == '0.50'


def test_improvement__undecided_where_the_interval_has_a_half(tmp_path):
    runs = [(HOPPER, 'dtql', [1, 2, 3, 4, 5]), (HOPPER, 'iql', [1, 2, 3, 4, 6])]
    ((*_, verdict),) = cells(improvement(gathered(tmp_path, runs)), 'improvement')
    assert verdict == 'undecided'


def test_profiles__names_the_agents_that_it_draws(tmp_path):
    section = profiles(gathered(tmp_path, RUNS))
    (charts,) = (part for part in section.parts if isinstance(part, Charts))
    assert 'dtql' in charts.legend
    assert 'iql' in charts.legend
    assert 'bc' not in charts.legend


def test_scored_tasks__leave_out_tasks_without_a_score(tmp_path):
    write_run(tmp_path / 'a', lanes([1, 2]), env='antmaze-large-diverse', success_ends=False)
    write_run(tmp_path / 'b', [[], []], env=HOPPER)
    write_run(tmp_path / 'c', lanes([1, 2]), env=WALKER)
    results = gather('s', read_runs(tmp_path))
    assert scored_tasks(results) == [WALKER]
    text = ' '.join(p.text for p in scores(results).parts if isinstance(p, Note))
    assert 'These tasks have no score; their returns are shown: antmaze-large-diverse.' in text


@pytest.mark.parametrize(
    ('values', 'text'),
    [([1.0, np.nan], '1.0 –'), ([np.nan], '–'), ([2.0] * 5, '2.0 [2.0, 2.0]')],
)
def test_spread__of_few_and_many(values, text):
    assert spread(values) == text


def test_join__cuts_a_long_list():
    assert join(['a', 'b', 'c'], 2) == 'a, b, and 1 more'
    assert join(['a', 'b'], 2) == 'a, b'
