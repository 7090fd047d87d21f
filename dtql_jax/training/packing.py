"""Small arrays of a loop's carry as one vector.

An update moves some sixty biases and scales, with moments and targets, each by a small kernel. On
an accelerator such a kernel takes as long as one for all of them together.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 2048  # numbers: biases and scales, and no matrices


class Packing:
    """Packs the small float32 leaves of a tree, and unpacks them.

    Args:
        tree: a tree of the shapes to come.
        most: the most numbers of a leaf that is packed; 0 packs none.
    """

    def __init__(self, tree: Any, most: int = SMALL):
        leaves, self._structure = jax.tree.flatten(tree)
        self._shapes = [x.shape for x in leaves]
        self._packed = [x.dtype == jnp.float32 and x.size <= most for x in leaves]
        sizes = [x.size for x, packed in zip(leaves, self._packed, strict=True) if packed]
        self._ends = np.cumsum(sizes)[:-1]

    def pack(self, tree: Any) -> tuple[jax.Array | None, list[Any]]:
        """The small leaves as a vector, None if there are none, and the others."""
        leaves = list(zip(jax.tree.leaves(tree), self._packed, strict=True))
        small = [x.reshape(-1) for x, packed in leaves if packed]
        vector = jnp.concatenate(small) if small else None
        return vector, [x for x, packed in leaves if not packed]

    def unpack(self, carry: tuple[jax.Array | None, list[Any]]) -> Any:
        """The tree of a carry."""
        vector, others = carry
        small = iter(() if vector is None else jnp.split(vector, self._ends))
        large = iter(others)
        leaves = [
            next(small).reshape(shape) if packed else next(large)
            for packed, shape in zip(self._packed, self._shapes, strict=True)
        ]
        return jax.tree.unflatten(self._structure, leaves)
