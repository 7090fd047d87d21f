"""Where the columns of a dataset lie."""

import numpy as np

ALIGNMENT = 64  # bytes: on a CPU jax takes arrays that begin so as they are and copies all others


def empty(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """An uninitialised array that jax's CPU device can use without a copy of its own.

    So the device's array and this one are the same memory: who puts it there must not write to it
    any more.
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    space = np.empty(size + ALIGNMENT, np.uint8)
    start = -space.ctypes.data % ALIGNMENT
    return space[start : start + size].view(dtype).reshape(shape)


def compact(array: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """`array[keep]` by a mask `[N]` over the rows of `array`, in its memory, which is overwritten.

    One block at a time: no second array of that size is ever there.
    """
    block, count = 65536, 0
    for start in range(0, len(array), block):
        rows = array[start : start + block][keep[start : start + block]]
        array[count : count + len(rows)] = rows
        count += len(rows)
    return array[:count]
