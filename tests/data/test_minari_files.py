"""Minari sets that are healthy but cannot be read now, and what metadata and files disagree on."""

import dataclasses
import fcntl
import json
import sys

import gymnasium as gym
import h5py
import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.minari_sets import ACTIONS, BOX, OWN, episode, write
from tests.helpers.permissions import obeying_permissions


@pytest.fixture
def own(root):
    """The folder of a set of four episodes."""
    write('me/own-v0', [episode(0, 3) for _ in range(4)])
    return root / 'me/own-v0'


def refused(task=OWN):
    """The one line; it never says to remove what is not known to be damaged and downloaded."""
    with pytest.raises(UserError) as caught:
        load(task, download=False)
    text = str(caught.value)
    assert '\n' not in text
    assert 'remove /' not in text
    return text


def mend(folder, **fields):
    """Changes fields of the metadata; None removes one."""
    path = folder / 'data/metadata.json'
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize('by', ['name', 'folder'])
def test_episodes__a_set_that_another_process_writes(own, by):
    task = OWN if by == 'name' else Task('own', (str(own),))
    with open(own / 'data/main_data.hdf5', 'rb') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = refused(task)
    assert 'another process holds it open and writes it' in text
    assert text.endswith('wait for that process to end')
    assert load(task).card['episodes'] == 4


@pytest.mark.parametrize('part', ['', 'data', 'data/main_data.hdf5', 'data/metadata.json'])
def test_open_set__a_set_that_one_may_not_read(own, part):
    path = own / part
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with obeying_permissions():
            text = refused()
    finally:
        path.chmod(mode)
    assert 'this user may not read it' in text
    assert 'truncated' not in text
    assert load(OWN).card['episodes'] == 4


def test_open_set__a_set_of_another_version_of_minari(own):
    mend(own, minari_version=['9'])
    assert 'it was written by Minari' in refused()
    mend(own, minari_version='9.1.0')
    text = refused()
    assert text.startswith('me/own-v0: it was written by Minari 9.1.0, which the installed Minari')
    assert text.endswith('pip install -U minari, or: pip install "minari==9.1.0"')


def test_open_set__a_format_that_this_minari_does_not_know(own):
    mend(own, data_format='zarr')
    assert 'it is stored as zarr, the installed Minari' in refused()


def test_open_set__a_format_whose_package_is_missing(own, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    monkeypatch.delitem(sys.modules, 'minari.dataset._storages.arrow_storage', raising=False)
    mend(own, data_format='arrow')
    text = refused()
    assert 'a package is missing' in text
    assert text.endswith('pip install "minari[arrow]"')
    mend(own, data_format='hdf5')
    assert load(OWN).card['episodes'] == 4


def test_open_set__a_space_that_this_minari_does_not_know(own):
    mend(own, observation_space='{"type": "Graph9"}')
    assert 'cannot be read' in refused()


@pytest.mark.parametrize('field', ['total_episodes', 'total_steps'])
@pytest.mark.parametrize('value', [None, -1, 'many', 2.5, True, [3]])
def test_count__metadata_without_a_number(own, field, value):
    mend(own, **{field: value})
    assert f'me/own-v0: metadata.json has {field}={value!r}, not a number of them' in refused()


def test_read__more_steps_promised_than_the_memory_holds(own):
    mend(own, total_steps=10**17)
    assert 'me/own-v0: its numbers take 4,300,000,000.0 GB, ' in refused()


def test_open_set__metadata_that_need_not_be_there(own):
    mend(own, minari_version=None, dataset_id=None, jpeg_encoding=None, data_format=None)
    assert load(OWN).card['episodes'] == 4


@pytest.mark.parametrize('text', ['[]', 'null', '"x"', '', '{"a"'])
def test_open_set__metadata_that_are_no_object(own, text):
    (own / 'data/metadata.json').write_text(text)
    assert f'{own}/data/metadata.json: cannot be read, the file is truncated' in refused()


def test_surplus__more_episodes_in_the_file_than_the_metadata_name(own):
    mend(own, total_episodes=3, total_steps=9)
    card = load(OWN).card
    assert card['episodes'] == 3
    assert card['notes'] == [
        'main_data.hdf5 has 4 episodes, metadata.json names 3: the rest is left out'
    ]


def test_episodes__fewer_than_the_metadata_name(own):
    mend(own, total_episodes=5, total_steps=15)
    assert refused().startswith('me/own-v0, episode 4: cannot be read, the file is truncated or')


@pytest.mark.parametrize('change', ['rename', 'group', 'scalar', 'nested'])
def test_episodes__groups_of_other_names_and_shapes(own, change):
    with h5py.File(own / 'data/main_data.hdf5', 'a') as file:
        if change == 'rename':
            file.move('episode_1', 'trajectory_1')
        elif change == 'group':
            del file['episode_1']
            file['episode_1'] = np.zeros(3)
        elif change == 'scalar':
            del file['episode_1/rewards']
            file['episode_1/rewards'] = 1.0
        else:
            del file['episode_1/actions']
            file['episode_1/actions/left'] = np.zeros((3, 2))
    assert refused().startswith('me/own-v0, episode 1')


def test_damaged__only_a_download_may_be_removed(own):
    whole = (own / 'data/metadata.json').read_bytes()
    (own / 'data/metadata.json').write_bytes(whole[:20])
    assert 'restore' in refused()
    mark = own.parent / '.cache/huggingface/download/own-v0/data'
    mark.mkdir(parents=True)
    with pytest.raises(UserError, match=r'remove .*own-v0 and run: minari download me/own-v0$'):
        load(OWN)
    (own / 'data/metadata.json').write_bytes(whole)
    assert load(OWN).card['episodes'] == 4


BOTH = gym.spaces.Dict({'left': ACTIONS, 'right': ACTIONS})
SPACES = {
    'discrete observations': ('observations', gym.spaces.Discrete(5), np.zeros(4, int), 'Discrete'),
    'several discrete': (
        'observations', gym.spaces.MultiDiscrete([2, 3]), np.zeros((4, 2), int), 'MultiDiscrete',
    ),
    'a tuple': (
        'observations', gym.spaces.Tuple([BOX, BOX]), (np.zeros((4, 3)),) * 2, 'Tuple',
    ),
    'a dict with words': (
        'observations',
        gym.spaces.Dict({'a': BOX, 'b': gym.spaces.Text(3)}),
        {'a': np.zeros((4, 3)), 'b': ['x'] * 4},
        'Text',
    ),
    'several discrete actions': (
        'actions', gym.spaces.MultiDiscrete([2, 3]), np.zeros((3, 2), int), 'MultiDiscrete',
    ),
    'a dict of actions': (
        'actions', BOTH, {side: np.zeros((3, 2), np.float32) for side in BOTH}, 'Dict',
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', list(SPACES))
def test_read__spaces_that_agents_cannot_use(root, case):
    part, space, values, kind = SPACES[case]
    spaces = (space, ACTIONS) if part == 'observations' else (BOX, space)
    write('me/own-v0', [episode(0, 3, **{part: values})], *spaces)
    text = refused()
    assert text.startswith('me/own-v0: ')
    assert f'{part} of type {kind}' in text


def test_read__images_and_unused_words_are_no_hindrance(root):
    images = gym.spaces.Box(0, 255, (32, 32), np.uint8)
    space = gym.spaces.Dict({'a': images, 'b': gym.spaces.Text(3), 'c': BOX})
    seen = {'a': np.zeros((4, 32, 32), np.uint8), 'b': ['x'] * 4, 'c': np.zeros((4, 3))}
    write('me/own-v0', [episode(0, 3, observations=seen)], space)
    assert load(dataclasses.replace(OWN, obs_keys=('c',))).spec.obs_dim == 3
    assert load(dataclasses.replace(OWN, obs_keys=('a', 'c'))).spec.obs_dim == 32 * 32 + 3
