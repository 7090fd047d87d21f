"""Lanes of runs: their labels, scores and groups."""

import json
import math

import numpy as np

from dtql_jax.runs.config_file import seal
from dtql_jax.studies.report_lanes import gather, shown
from dtql_jax.studies.results import read_runs
from tests.helpers.report_runs import noisy, write_run

HOPPER = 'hopper-medium-v2'


def gathered(tmp_path):
    return gather('a study', read_runs(tmp_path))


def labels(results):
    return list(dict.fromkeys((lane.task, lane.agent) for lane in results.lanes))


def test_gather__agents_are_named_by_what_tells_them_apart(tmp_path):
    variants = {'alpha=0.5': {'alpha': 0.5}, 'alpha=2': {'alpha': 2.0}}
    write_run(tmp_path / 'a', noisy(0, 4), env=HOPPER, variants=variants)
    write_run(tmp_path / 'b', noisy(1, 4), env=HOPPER, variants=variants, hidden=512)
    write_run(tmp_path / 'c', noisy(2, 2), env=HOPPER, agent='iql')
    assert labels(gathered(tmp_path)) == [
        (HOPPER, 'dtql alpha=0.5 hidden=256'),
        (HOPPER, 'dtql alpha=2 hidden=256'),
        (HOPPER, 'dtql alpha=0.5 hidden=512'),
        (HOPPER, 'dtql alpha=2 hidden=512'),
        (HOPPER, 'iql'),
    ]


def test_gather__settings_of_tasks_are_no_part_of_a_label(tmp_path):
    for i, task in enumerate(('hopper-medium-v2', 'walker2d-medium-v2')):
        write_run(tmp_path / f'{i}', noisy(i, 2), env=task, alpha=1.0 + i)
    assert [agent for _, agent in labels(gathered(tmp_path))] == ['dtql', 'dtql']


def test_gather__runs_of_the_same_agent_that_differ_in_a_flag(tmp_path):
    for i in range(2):
        write_run(tmp_path / f'{i}', noisy(i, 2), env=HOPPER, alpha=1.0 + i)
    results = gathered(tmp_path)
    assert [agent for _, agent in labels(results)] == ['dtql alpha=1', 'dtql alpha=2']
    assert {lane.base for lane in results.lanes} == {'dtql'}
    assert not results.twice


def test_gather__runs_that_start_from_others_are_agents_of_their_own(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER)
    path = write_run(tmp_path / 'b', noisy(1, 2), env=HOPPER) / 'config.json'
    config = json.loads(path.read_text())
    config['identity']['init_from'] = {'run': '/x/first', 'step': 5, 'sha256': 'c' * 64}
    del config['sha256']
    path.write_text(json.dumps({**config, 'sha256': seal(config)}))
    assert [agent for _, agent in labels(gathered(tmp_path))] == [
        'dtql init_from=none',
        'dtql init_from=first:cccccccc',
    ]


def test_gather__a_clone_is_an_agent_of_its_own(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 3), env=HOPPER, clone_seeds=1)
    results = gathered(tmp_path)
    assert [(lane.agent, lane.seed) for lane in results.lanes] == [
        ('dtql', 0), ('dtql', 1), ('dtql clone', 0),
    ]  # fmt: skip


def test_gather__variants_with_names_of_their_own(tmp_path):
    variants = {'weak': {'alpha': 0.1}, 'dtql': {}}
    write_run(tmp_path / 'a', noisy(0, 4), env=HOPPER, variants=variants)
    agents = [agent for _, agent in labels(gathered(tmp_path))]
    assert agents[0] == 'dtql weak'
    assert agents[1].startswith('dtql alpha=')


def test_gather__lanes_that_are_the_same_count_once(tmp_path):
    for name in 'ab':
        write_run(tmp_path / name, noisy(0, 2), env=HOPPER)
    results = gathered(tmp_path)
    assert len(results.lanes) == len(results.twice) == 2
    assert {lane.run for lane in results.twice} == {1}


def test_gather__tasks_of_one_name_and_different_data_stay_apart(tmp_path):
    data = tmp_path / 'own.hdf5'
    data.write_text('')
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER)
    write_run(tmp_path / 'b', noisy(1, 2), env=HOPPER, dataset_path=str(data))
    first, second = gathered(tmp_path).tasks
    assert first == f'{HOPPER} data=hopper_medium-v2.hdf5'
    assert second.startswith(f'{HOPPER} data=')
    assert second.endswith('own.hdf5')


def test_LaneResult__last_and_best_of_sound_failed_and_diverged_lanes(tmp_path):
    scores = [
        [[10, 20], [50, 70], [30, 30]],
        [[10, 20], 'reward not finite'],
        [[8, 8]],
        [],
    ]
    write_run(tmp_path / 'a', scores, diverged={2: 1500}, env=HOPPER, num_seeds=4)
    sound, failed, diverged, none = gathered(tmp_path).lanes
    assert (sound.last, sound.best, sound.diverged_at) == (30, 60, None)
    assert sound.episodes.tolist() == [30, 30]
    assert sound.steps.tolist() == [1000, 2000, 3000]
    assert math.isnan(failed.last)
    assert (failed.best, failed.failed) == (15, 'reward not finite')
    assert not len(failed.episodes)
    assert math.isnan(diverged.last)
    assert (diverged.best, diverged.diverged_at) == (8, 1500)
    assert np.isnan([none.last, none.best, none.success]).all()


def test_gather__a_task_without_a_score_has_returns(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 2), env='antmaze-large-diverse', success_ends=False)
    results = gathered(tmp_path)
    assert not results.scored('antmaze-large-diverse')
    assert len(results.lanes[0].episodes) == 4


def test_Results__last_scores_leave_out_what_is_not_known(tmp_path):
    write_run(tmp_path / 'a', [[[1, 3]], []], env=HOPPER)
    write_run(tmp_path / 'b', [[], []], env=HOPPER, agent='iql')
    results = gathered(tmp_path)
    assert [column.tolist() for column in results.last_scores('dtql', [HOPPER])] == [[2]]
    assert results.last_scores('iql', [HOPPER]) == []


def test_shown__as_a_flag_has_it():
    values = (True, None, 0.5, 1.0, 3, 'mish')
    assert [shown(value) for value in values] == ['true', 'none', '0.5', '1', '3', 'mish']
