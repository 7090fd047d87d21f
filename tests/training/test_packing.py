"""Small arrays as one vector."""

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.training.packing import Packing

TREE = {
    'a': jnp.arange(3.0),
    'b': {'w': jnp.ones((4, 5)), 'scalar': jnp.float32(2.0)},
    'c': jnp.arange(2),
    'd': [jnp.array([[7.0, 8.0]]), jax.random.key(0)],
}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(x, y)


def test_pack__joins_the_small_float32_leaves():
    packing = Packing(TREE, most=3)
    vector, others = packing.pack(TREE)
    assert vector.tolist() == [0, 1, 2, 2, 7, 8]
    assert [x.shape for x in others] == [(4, 5), (2,), ()]
    same(packing.unpack((vector, others)), TREE)


def test_pack__can_leave_all_as_they_are():
    packing = Packing(TREE, most=0)
    vector, others = packing.pack(TREE)
    assert vector is None
    assert len(others) == len(jax.tree.leaves(TREE))
    same(packing.unpack((vector, others)), TREE)
