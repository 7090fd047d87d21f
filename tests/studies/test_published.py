"""Published numbers: of the same edition of the data, and never of another one."""

import dataclasses
import re

import pytest

from dtql_jax.studies.published import METHODS, find, rows
from dtql_jax.tasks.registry import TASKS


def found(name, own_data=False, **changes):
    return find({**dataclasses.asdict(TASKS[name]), **changes}, own_data)


def test_rows__every_number_has_a_source_and_is_one():
    assert len(rows()) > 1000
    for row in rows():
        float(row.mean)
        assert row.source
        assert row.method
        assert row.dataset_version
    assert set(METHODS.values()) <= {row.method for row in rows()}


def test_rows__name_no_place_where_only_we_can_look():
    for row in rows():
        assert not re.search('stored text|shared/', row.source + row.quoted_by)


def test_find__one_version_of_d4rl_has_only_its_own_numbers():
    for name in ('hopper-medium-v2', 'antmaze-large-diverse-v0', 'antmaze-large-diverse-v2'):
        version = name[-2:]
        mine = found(name)
        assert {row.dataset_version for row in mine.same} <= {version}
        assert {row.task for row in (*mine.same, *mine.unstated)} == {name[:-3]}
        assert not {row.dataset_version for row in mine.unstated} & {'v0', 'v1', 'v2'}
    assert found('antmaze-large-diverse-v2').same
    old, new = (found(f'antmaze-large-diverse-{version}') for version in ('v0', 'v2'))
    labelled = {row.dataset_version for row in old.unstated if row.dataset_version[0] == 'v'}
    assert labelled
    assert all(version.startswith('v0 ') for version in labelled)
    assert not labelled & {row.dataset_version for row in new.unstated}


def test_find__several_sources_for_one_number_stay_several():
    iql = [row for row in found('hopper-medium-v2').same if row.method == 'IQL']
    assert len({row.source for row in iql}) > 3
    assert {row.chosen for row in iql} >= {'last', 'best', '?'}


def test_find__minari_gets_none_of_d4rls_numbers():
    mine = found('hopper-medium')
    assert {row.dataset_version for row in mine.same} == {'Minari v0'}
    assert not mine.unstated
    assert 'are of other data and are not shown' in mine.words
    assert not found('antmaze-large-diverse').same


def test_find__ogbench_says_with_which_version_it_was_published():
    name = 'cube-single-play-singletask-task2-v0'
    mine = found(name)
    assert {row.method for row in mine.same} >= {'FQL', 'IDQL', 'SRPO', 'IQL', 'BC'}
    assert 'ogbench 1.1' in mine.words
    assert 'here it is judged before the action, as since 1.2' in mine.words
    assert 'here it is judged so too' in found(name, success_timing='post').words


@pytest.mark.parametrize(
    ('name', 'numbered'),
    [
        ('cube-single-play-singletask-v0', 'cube-single-play-singletask-task2-v0'),
        ('antmaze-large-navigate-singletask-v0', 'antmaze-large-navigate-singletask-task1-v0'),
        ('puzzle-4x4-play-singletask-v0', 'puzzle-4x4-play-singletask-task4-v0'),
        ('antsoccer-arena-navigate-singletask-v0', 'antsoccer-arena-navigate-singletask-task4-v0'),
    ],
)
def test_find__the_task_that_ogbench_takes_without_a_number(name, numbered):
    assert found(name).same == found(numbered).same != ()
    assert numbered in found(name).words


def test_find__the_default_numbers_are_ogbenchs_own():
    pytest.importorskip('ogbench', reason='ogbench is not installed')
    import inspect

    from ogbench.locomaze import maze
    from ogbench.manipspace.envs import cube_env, puzzle_env, scene_env

    defaults = {
        module: re.findall(r'_reward_task_id = (\d)', inspect.getsource(module))
        for module in (maze, cube_env, scene_env, puzzle_env)
    }
    assert defaults == {maze: ['1', '4'], cube_env: ['2'], scene_env: ['2'],
                        puzzle_env: ['4', '4', '2', '2']}  # fmt: skip


def test_find__data_of_ones_own_have_no_published_number():
    mine = found('hopper-medium-v2', own_data=True)
    assert (mine.same, mine.unstated) == ((), ())
    assert 'no published number fits' in mine.words


def test_Published__value_and_choice_in_words():
    row = rows()[0]
    assert dataclasses.replace(row, mean='5', spread='').value == '5'
    assert dataclasses.replace(row, mean='5', spread='2').value == '5 ± 2'
    texts = ('last (1M steps)', 'best (online)', 'mean of last 3', 'offline selection', '')
    words = [dataclasses.replace(row, selection=text).chosen for text in texts]
    assert words == ['last', 'best', 'mean', 'offline', '?']
