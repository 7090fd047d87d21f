"""Mutations of valid files: what they write, and that all of them can be written."""

import h5py
import hypothesis
import numpy as np
import pytest

from tools.campaign import mutations, toys


def test_fields_of__each_kind_of_change():
    fields = mutations.fields_of(
        [
            ('drop', 'timeouts'),
            ('rename', 'terminals', 'x'),
            ('copy', 'rewards', 'masks'),
            ('type', 'actions', 'i2'),
            ('shape', 'observations', 'short'),
            ('number', 'rewards', float('inf'), 7),
            ('instead', 'next_observations', 'group'),
        ],
        toys.arrays(),
    )
    assert fields.keys() == {
        'observations',
        'next_observations',
        'actions',
        'rewards',
        'x',
        'masks',
    }
    assert fields['actions'].dtype == np.int16
    assert len(fields['observations']) == 199
    assert np.isinf(fields['rewards'][7])
    assert np.isfinite(fields['masks']).all()
    assert fields['next_observations'] == 'group'


@pytest.mark.parametrize('name', mutations.STANDINS)
def test_write_hdf5__each_stand_in(name, tmp_path):
    with h5py.File(tmp_path / 'data.hdf5', 'w') as file:
        mutations.write_hdf5(file, {'rewards': name})
        assert file.get('rewards', getlink=True) is not None


@hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
@hypothesis.given(mutations.changes)
def test_changes__can_be_written_as_both_formats(tmp_path_factory, example):
    folder = tmp_path_factory.mktemp('files')
    fields = mutations.fields_of(example[0], toys.arrays(20))
    with h5py.File(folder / 'data.hdf5', 'w') as file:
        mutations.write_hdf5(file, fields)
    mutations.write_npz(folder / 'data.npz', fields)
    for name in ('data.hdf5', 'data.npz'):
        mutations.edit_bytes(folder / name, example[1])


def test_edit_json__changes_and_removes(tmp_path):
    path = tmp_path / 'metadata.json'
    path.write_text('{"a": 1, "b": 2, "c": 3}')
    mutations.edit_json(path, [(0, False, [7]), (4, True, None)])
    assert path.read_text() == '{"a": [7], "c": 3}'
