"""Where sets lie, and what their metadata say."""

import json

import pytest

from dtql_jax.collect.wander import Wander
from dtql_jax.collect.write import collect
from dtql_jax.data.load import load
from dtql_jax.tasks.minari_sets import (
    damaged,
    minari_folder,
    own_folder,
    read_metadata,
    unmet_requirements,
)
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions


def test_minari_folder__takes_an_id_or_the_folder(root):
    assert minari_folder('me/own-v0') == root / 'me' / 'own-v0'
    (root / 'here' / 'data').mkdir(parents=True)
    assert minari_folder(str(root / 'here')) == root / 'here'


def test_minari_folder__a_root_that_is_absent_is_not_made(root, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(root / 'no' / 'sets'))
    assert minari_folder('me/own-v0') == root / 'no' / 'sets' / 'me' / 'own-v0'
    assert not (root / 'no').exists()


def test_minari_folder__a_root_that_cannot_be(root, monkeypatch):
    (root / 'file').write_text('')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(root / 'file' / 'sets'))
    with pytest.raises(
        UserError, match=r'me/own-v0 is not in .*/file/sets and .* export MINARI_DAT'
    ):
        load(Task('own', ('me/own-v0',)), download=False)
    with pytest.raises(
        UserError, match=r'cannot write dataset me/own-v0 .* export MINARI_DATASETS_P'
    ):
        collect(Wander(TASKS['pointmaze-umaze']), 'me/own-v0', 300)


def test_minari_folder__a_folder_that_one_may_not_enter(root):
    (root / 'shut' / 'own' / 'data').mkdir(parents=True)
    (root / 'shut').chmod(0)
    try:
        with obeying_permissions(), pytest.raises(UserError, match='this user may not read it'):
            minari_folder(str(root / 'shut' / 'own'))
    finally:
        (root / 'shut').chmod(0o700)
    assert minari_folder(str(root / 'shut' / 'own')).is_dir()


def test_own_folder__a_folder_is_absolute_and_an_id_stays(root, monkeypatch):
    (root / 'a b' / 'data').mkdir(parents=True)
    (root / 'me' / 'own-v0' / 'data').mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv('HOME', str(root))
    assert own_folder('a b') == own_folder('./a b/') == own_folder('~/a b') == str(root / 'a b')
    assert own_folder('me/own-v0') == str(root / 'me/own-v0')
    assert own_folder('me/other-v0') == 'me/other-v0'
    assert own_folder('no/where') == str(root / 'no/where')
    for name in ('', '  '):
        with pytest.raises(UserError, match='names no dataset: write minari:<dataset id>'):
            own_folder(name)


def test_own_folder__a_home_that_is_not_known():
    with pytest.raises(UserError, match='the home folder is unknown: write the whole path'):
        own_folder('~no-such-user/own')


def test_read_metadata__one_line_where_there_are_none(root):
    (root / 'own-v0/data').mkdir(parents=True)
    with pytest.raises(UserError, match='there is no such file'):
        read_metadata('own-v0')
    (root / 'own-v0/data/metadata.json').write_text(json.dumps({'a': 1}))
    assert read_metadata('own-v0') == {'a': 1}


def test_damaged__removal_is_proposed_for_downloads_alone(root):
    assert damaged('me/own-v0').startswith(f'restore {root}/me/own-v0 from where it came')
    (root / 'me/.cache/huggingface/download/own-v0').mkdir(parents=True)
    assert damaged('me/own-v0').startswith(f'it was downloaded: remove {root}/me/own-v0 and run')


def test_unmet_requirements__names_what_is_lacking():
    asked = ['numpy', 'numpy<1', 'no-such-dist[x]>=2', 'bad !!', None, 'x; rm -rf /']
    assert unmet_requirements(asked) == ['"numpy<1"', '"no-such-dist[x]>=2"']
    assert unmet_requirements(['no-such-dist; python_version < "3"']) == []
    assert unmet_requirements('numpy') == unmet_requirements(None) == []
