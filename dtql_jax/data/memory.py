"""Memory that jax's CPU device uses without a copy."""

import numpy as np

ALIGNMENT = 64  # bytes: jax's CPU device aliases arrays that begin at a multiple, copies others


def empty(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """An uninitialised array that jax's CPU device uses without a copy.

    The device aliases it; do not write to it once it is on the device.
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    space = np.empty(size + ALIGNMENT, np.uint8)
    start = -space.ctypes.data % ALIGNMENT
    return space[start : start + size].view(dtype).reshape(shape)


def compact(array: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """`array[keep]` for a mask `keep` `[N]`, in the memory of `array`, which it overwrites.

    It moves one block of rows at a time, so that no second array of that size is allocated.
    """
    block, count = 65536, 0
    for start in range(0, len(array), block):
        rows = array[start : start + block][keep[start : start + block]]
        array[count : count + len(rows)] = rows
        count += len(rows)
    return array[:count]
