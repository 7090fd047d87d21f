"""Arrays that the device uses without a copy, and rows that are dropped in place."""

import jax
import numpy as np
import pytest

from dtql_jax.data import memory
from dtql_jax.types import Transition


@pytest.mark.parametrize('shape', [(1,), (5, 3), (1001, 17)])
@pytest.mark.parametrize('dtype', [bool, np.float32, np.float64])
def test_empty__begins_at_a_boundary(shape, dtype):
    array = memory.empty(shape, dtype)
    assert (array.shape, array.dtype, array.ctypes.data % 64) == (shape, dtype, 0)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert memory.empty((0, 3), dtype).shape == (0, 3)


def test_empty__a_cpu_device_makes_no_copy():
    data = Transition(
        *[memory.empty((5, *rest), np.float32) for rest in ((3,), (2,), (), (), (3,))]
    )
    for array in data[:5]:
        array[...] = 1
        array.flags.writeable = False
    placed = jax.device_put(data, jax.devices('cpu')[0])
    for array, there in zip(data[:5], placed[:5], strict=True):
        assert there.unsafe_buffer_pointer() == array.ctypes.data


@pytest.mark.parametrize('count', [0, 5, 200_001])
def test_compact__keeps_what_a_mask_selects(count):
    rng = np.random.default_rng(0)
    array, keep = rng.normal(size=(count, 3)), rng.random(count) < 0.7
    expected = array[keep]
    found = memory.compact(array, keep)
    assert np.shares_memory(found, array) == (len(found) > 0)
    np.testing.assert_array_equal(found, expected)
