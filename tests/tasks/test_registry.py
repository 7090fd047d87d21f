"""The registry: names, sources, versions, and tasks of one's own."""

import pytest

from dtql_jax.tasks import registry
from dtql_jax.tasks.registry import TASKS, register_task, resolve
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

UMAZE = TASKS['pointmaze-umaze']


def test_resolve__a_name_without_a_version_is_the_default_and_needs_no_note():
    assert resolve('hopper-medium') == (TASKS['hopper-medium'], None)
    assert TASKS['hopper-medium'].source == 'minari'
    # Where Minari has none, D4RL's own file is the default.
    assert resolve('hopper-medium-replay') == (TASKS['hopper-medium-replay-v2'], None)


def test_resolve__a_name_with_d4rls_version_is_d4rls_own_file():
    for name in ('hopper-medium-v2', 'antmaze-large-diverse-v0', 'pen-human-v1'):
        task, note = resolve(name)
        assert (task.name, task.source, note) == (name, 'd4rl', None)


def test_resolve__takes_the_source_that_is_asked_for():
    assert resolve('hopper-medium', 'd4rl') == (TASKS['hopper-medium-v2'], None)
    assert resolve('hopper-medium-v2', 'd4rl') == (TASKS['hopper-medium-v2'], None)
    task, note = resolve('walker2d-medium-expert-v2', 'minari')
    assert task is TASKS['walker2d-medium-expert']
    assert note.startswith('walker2d-medium-expert-v2: served by mujoco/walker2d/medium-v0 + mujoc')
    assert "other data than D4RL's" in note
    with pytest.raises(UserError, match='medium-replay does not come from minari: there is `sour'):
        resolve('hopper-medium-replay', 'minari')
    with pytest.raises(UserError, match=r'several versions; name one: `env`=antmaze-umaze-v0 or '):
        resolve('antmaze-umaze', 'd4rl')
    with pytest.raises(UserError, match='`source`=gym: there are minari, d4rl, ogbench, made'):
        resolve('hopper-medium', 'gym')


def test_resolve__a_files_format_decides_where_the_name_leaves_it_open():
    assert resolve('hopper-medium', None, 'x.hdf5')[0].env_id == 'Hopper-v4'
    assert resolve('hopper-medium', 'minari', 'x.hdf5')[0].env_id == 'Hopper-v5'
    assert resolve('hopper-medium-v2', None, 'some/folder')[0].env_id == 'Hopper-v4'
    assert resolve('hopper-medium', None, 'some/folder')[0].env_id == 'Hopper-v5'
    assert resolve('pointmaze-umaze', None, 'x.hdf5')[0] is UMAZE  # its reader says what is wrong
    with pytest.raises(UserError, match='several versions'):
        resolve('antmaze-umaze', None, 'x.hdf5')


def test_resolve__unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="unknown task 'hoper-medium'; nearest: hopper-medium,"):
        resolve('hoper-medium')
    with pytest.raises(UserError, match="'hopper-medium-v0'; nearest: hopper-medium-v2"):
        resolve('hopper-medium-v0')
    with pytest.raises(UserError, match=r'nearest: pointmaze-umaze, .*dtql list shows all'):
        resolve('zzz')
    for name, source in (('minari:', None), ('minari:  ', None), ('minari:me/own-v0', 'd4rl')):
        with pytest.raises(UserError, match='names no dataset'):
            resolve(name, source)


def test_register_task__adds_a_name_once(monkeypatch):
    monkeypatch.setattr(registry, 'TASKS', dict(TASKS))
    own = register_task(Task('mine', ('me/mine-v0',), env_id='Hopper-v5', horizon=7))
    assert resolve('mine') == (own, None)
    with pytest.raises(UserError, match="a task 'mine' already"):
        register_task(own)
