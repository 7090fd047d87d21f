"""The program that an export in the format numpy brings along."""

import json

import numpy as np
import pytest

from dtql_jax.runs.export.formats import safetensors
from dtql_jax.runs.export.numpy_policy import Policy, read_weights

ARRAYS = {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3),
    'b': np.array([True, False, True]),
    'c': np.array(7, np.int64),
    'd': np.zeros(0, np.int32),
}


def test_read_weights__reads_what_was_written(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(safetensors(ARRAYS))
    found = read_weights(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_read_weights__the_format_is_that_of_safetensors(tmp_path):
    package = pytest.importorskip('safetensors.numpy', reason='safetensors is not installed')
    found = package.load(safetensors(ARRAYS))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    path = tmp_path / 'theirs.safetensors'
    package.save_file({'a': ARRAYS['a']}, path, {'about': 'metadata'})
    np.testing.assert_array_equal(read_weights(path)['a'], ARRAYS['a'])


def test_policy__draws_the_noise_that_it_takes(tmp_path):
    noise = [
        {'name': 'normal_0', 'kind': 'normal', 'shape': [3]},
        {'name': 'uniform_1', 'kind': 'uniform', 'shape': []},
    ]
    nodes = [
        ['Add', ['obs', 'normal_0'], 'v0', {}],
        ['Mul', ['v0', 'uniform_1'], 'action', {}],
    ]
    config = {'noise': noise, 'graphs': {'policy': nodes, 'deterministic': nodes[:0]}}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    (tmp_path / 'weights.safetensors').write_bytes(safetensors({}))
    policy = Policy(tmp_path)
    obs = [1.0, 2.0, 3.0]
    first, again = (policy(obs, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(policy.act(obs, [np.ones(3), 0.5]), [1.0, 1.5, 2.0])
    normal, uniform = policy.draw(np.random.default_rng(0))
    assert (normal.shape, np.shape(uniform)) == ((3,), ())
