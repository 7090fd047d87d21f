"""Memory: what is free, and arrays that jax's CPU device uses without a copy."""

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtql_jax.types import UserError, why

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


def need(what: str, size: int) -> None:
    """Raises UserError where `size` bytes, which reading `what` takes, are more than are free."""
    free = available()
    if free is not None and size > free:
        raise UserError(
            f'{what}: its numbers take {size / 1e9:,.1f} GB, {free / 1e9:,.1f} GB of memory are '
            'free; write a part of the rows into another file, or use a larger machine'
        )


@contextlib.contextmanager
def enough(what: str) -> Iterator[None]:
    """Turns a lack of memory while `what` is read into one line."""
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f'{what}: the data do not fit into memory ({why(error)}); take a part of the rows, or '
            'use a larger machine'
        ) from error


def available() -> int | None:
    """The bytes of memory that this process can still get; None where nothing tells."""
    free = [_machine(), _group(), _process()]
    return min((size for size in free if size is not None), default=None)


def _machine() -> int | None:
    """What the machine has free."""
    found = re.search(r'MemAvailable:\s+(\d+) kB', _text('/proc/meminfo'))
    return int(found[1]) * 1024 if found else None


def _group() -> int | None:
    """What a container or a job of a scheduler leaves; files kept in memory do not count."""
    groups = re.findall(r'^0::/?(.*)$', _text('/proc/self/cgroup'), re.MULTILINE)
    for folder in (Path('/sys/fs/cgroup', *groups), Path('/sys/fs/cgroup')):
        limit, used = _text(folder / 'memory.max'), _text(folder / 'memory.current')
        if limit.strip().isdecimal() and used.strip().isdecimal():
            found = re.search(r'^inactive_file (\d+)', _text(folder / 'memory.stat'), re.MULTILINE)
            return max(0, int(limit) - int(used) + (int(found[1]) if found else 0))
    return None


def _process() -> int | None:
    """What the limit of the shell (`ulimit -v`) leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text('/proc/self/statm').split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0]) * resource.getpagesize())


def _text(path: str | Path) -> str:
    """The text of a file of the system; '' where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ''
