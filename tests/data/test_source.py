"""A source is spread over several files where links lead out of it; then it is not cached."""

import os
import shutil

import h5py
import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.data.source import elsewhere, state_of
from tests.helpers.cache import entries, equal
from tests.helpers.flat_files import load_file, table
from tests.helpers.minari_sets import OWN, episode, write


def flat(path, **changes):
    """A D4RL file of five rows, with fields changed, or left out where they are None."""
    fields = {
        'observations': table(np.arange(5.0)),
        'actions': table(np.full(5, 0.5), 2),
        'rewards': np.arange(5.0),
        'terminals': np.arange(5) == 4,
    }
    with h5py.File(path, 'w') as file:
        for name, value in (fields | changes).items():
            if value is not None:
                file[name] = value
    return path


def linked(path, target):
    flat(path, rewards=None)
    with h5py.File(path, 'a') as file:
        file['rewards'] = h5py.ExternalLink(target.name, '/rewards')


def linked_folder(path, target):
    flat(path, rewards=None)
    with h5py.File(path, 'a') as file:
        file['far'] = h5py.ExternalLink(str(target), '/')
        file['rewards'] = h5py.SoftLink('/far/rewards')


def virtual(path, target):
    flat(path, rewards=None)
    layout = h5py.VirtualLayout((5,), 'f8')
    layout[:] = h5py.VirtualSource(str(target), 'rewards', (5,))
    with h5py.File(path, 'a') as file:
        file.create_virtual_dataset('rewards', layout)


def raw(path, target):
    flat(path, rewards=None)
    with h5py.File(path, 'a') as file:
        place = [(str(target.with_suffix('.raw')), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset('rewards', (5,), 'f8', external=place)


@pytest.mark.parametrize('spread', [linked, linked_folder, virtual, raw])
def test_elsewhere__another_file_that_is_rewritten_is_read_again(folder, tmp_path, capsys, spread):
    path, target = tmp_path / 'own.hdf5', flat(tmp_path / 'target.hdf5')
    np.arange(5.0).tofile(target.with_suffix('.raw'))
    spread(path, target)
    assert load_file(path).transitions.reward.tolist() == [0, 1, 2, 3, 4]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f'{path}: not cached for the next time (changes behind {path}:')
    assert line.endswith(' would go unnoticed)')
    flat(target, rewards=10 + np.arange(5.0))
    (10 + np.arange(5.0)).tofile(target.with_suffix('.raw'))
    assert load_file(path).transitions.reward.tolist() == [10, 11, 12, 13, 14]
    assert not entries(folder) if folder.exists() else True
    plain = load_file(target)
    assert len(entries(folder)) == 1
    assert equal(load_file(target), plain)


def test_state_of__links_to_other_files_and_folders(folder, tmp_path):
    one, two = flat(tmp_path / 'one.hdf5'), flat(tmp_path / 'two.hdf5', rewards=np.ones(5))
    link = tmp_path / 'link.hdf5'
    link.symlink_to(one)
    assert load_file(link).transitions.reward.tolist() == [0, 1, 2, 3, 4]
    link.unlink()
    link.symlink_to(two)
    assert load_file(link).transitions.reward.tolist() == [1] * 5
    flat(two, rewards=np.full(5, 2.0))
    assert load_file(link).transitions.reward.tolist() == [2] * 5


def test_state_of__a_set_whose_file_is_a_link(root, folder):
    write('me/own-v0', [episode(0, 3)])
    write('me/other-v0', [episode(7, 3)])
    file, other = (root / 'me' / f'{name}-v0/data/main_data.hdf5' for name in ('own', 'other'))
    shutil.move(file, root / 'moved.hdf5')
    file.symlink_to(root / 'moved.hdf5')
    assert load(OWN).transitions.obs[:, 0].tolist() == [0, 1, 2]
    assert len(entries(folder)) == 1
    before = state_of(file.parent)
    shutil.copystat(root / 'moved.hdf5', other)
    file.unlink()
    file.symlink_to(other)
    assert state_of(file.parent) != before
    assert load(OWN).transitions.obs[:, 0].tolist() == [7, 8, 9]


def test_elsewhere__a_linked_folder_inside_and_a_dangling_link(tmp_path):
    (tmp_path / 'set' / 'data').mkdir(parents=True)
    (tmp_path / 'far').mkdir()
    assert elsewhere(tmp_path / 'set') is None
    os.symlink(tmp_path / 'far', tmp_path / 'set' / 'data' / 'episode_0')
    assert elsewhere(tmp_path / 'set') == str(tmp_path / 'set' / 'data' / 'episode_0')
    flat(tmp_path / 'own.hdf5')
    assert elsewhere(tmp_path / 'own.hdf5') is None


def test_elsewhere__a_file_whose_links_cannot_be_followed(tmp_path, monkeypatch):
    path = flat(tmp_path / 'a.hdf5')
    assert elsewhere(path) is None

    def fail(*_):
        raise RuntimeError('Link visitation failed (wrong B-tree signature)')

    monkeypatch.setattr(h5py.Group, 'visititems_links', fail)
    assert elsewhere(path) == f'{path}:/'
