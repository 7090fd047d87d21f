"""`Task`: fields that fit together, names of its rows, scores, and changed copies."""

import dataclasses

import pytest

from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task, adjust, recorded_fields
from dtql_jax.types import UserError

UMAZE = TASKS['pointmaze-umaze']


def test_Task__relabel_needs_a_maze_map_with_one_goal():
    with pytest.raises(UserError, match="exactly one 'g' cell"):
        dataclasses.replace(UMAZE, env_kwargs={'maze_map': [[1, 'g', 'g']]})


def test_Task__datasets_are_a_tuple_which_may_be_empty():
    assert Task('own').datasets == ()
    with pytest.raises(UserError, match=r"datasets='me/x-v0': give a tuple, \('me/x-v0',\)"):
        Task('own', 'me/x-v0')


def test_Task_rows__go_from_the_name_to_the_family():
    task = TASKS['cube-single-play-singletask-task2-v0']
    shared = 'cube-single-play-singletask-v0'
    assert task.rows == (task.name, shared, 'ogbench-hand', 'ogbench')
    assert TASKS[shared].rows == (shared, 'ogbench-hand', 'ogbench')
    d4rl = TASKS['antmaze-large-play-v0']
    assert d4rl.rows == ('antmaze-large-play-v0', 'antmaze-large-play', 'd4rl-antmaze')


def test_Task_score__is_0_and_100_at_the_ends_of_the_range():
    assert TASKS['hopper-medium'].score([-20.272305, 3234.3]).tolist() == [0, 100]
    assert UMAZE.score(0.25) == 25
    assert Task('own', ('me/own-v0',)).score(3.0) is None


def test_Task_score__is_of_success_where_returns_count_steps():
    task = TASKS['cube-single-play-singletask-v0']
    assert task.score([-200.0, -31.0], [0.0, 1.0]).tolist() == [0, 100]


def test_adjust__checks_names_and_values():
    assert adjust(UMAZE, goal='observe').goal == 'observe'
    assert adjust(UMAZE, success_ends=False).score_range is None
    with pytest.raises(UserError, match="goal='none' has no meaning here, use 'observe' or"):
        adjust(UMAZE, goal='none')
    with pytest.raises(UserError, match="goal='relabel' has no meaning here, use 'none'"):
        adjust(TASKS['hopper-medium'], goal='relabel')
    with pytest.raises(UserError, match='success_ends=True needs a goal'):
        adjust(TASKS['hopper-medium'], success_ends=True)
    with pytest.raises(UserError, match="success_ends='no': use True or False"):
        adjust(UMAZE, success_ends='no')
    cube = TASKS['cube-single-play-singletask-v0']
    assert cube.success_timing == 'pre'
    assert adjust(cube, success_timing='post').success_timing == 'post'
    with pytest.raises(UserError, match="success_timing='now': use 'pre' or 'post'"):
        adjust(cube, success_timing='now')
    with pytest.raises(UserError, match='has a meaning in tasks of OGBench only'):
        adjust(UMAZE, success_timing='post')
    assert adjust(UMAZE, rescale_actions=True).rescale_actions
    with pytest.raises(UserError, match='rescale_actions=1: use True or False'):
        adjust(UMAZE, rescale_actions=1)
    with pytest.raises(UserError, match="unknown task setting 'horizont': there are goal, succ"):
        adjust(UMAZE, horizont=3)


@pytest.mark.parametrize('horizon', [0, -1, 2.5, True, '9'])
def test_Task__a_horizon_that_is_no_number_of_steps(horizon):
    text = r'^own: horizon=.*: give a whole number of steps, or None$'
    with pytest.raises(UserError, match=text):
        Task('own', horizon=horizon)


def test_recorded_fields__of_an_older_version():
    """It had no `success_timing`, and OGBench's environments judged before the action."""
    fields = dataclasses.asdict(TASKS['cube-single-play-singletask-task1-v0'])
    older = {k: v for k, v in fields.items() if k not in ('success_timing', 'columns')}
    assert recorded_fields(older) == {**fields, 'success_timing': 'pre'}
    assert recorded_fields({'name': 'x', 'family': 'custom'}) == dataclasses.asdict(Task('x'))


def test_Task__hashes_with_a_box_of_lists():
    assert hash(Task('x', action_box=([0, 0], [5, 5]))) == hash(Task('x'))
