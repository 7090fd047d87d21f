"""Whether a program is traced for a device where launching a kernel costs more than its work."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp

_FEW = contextvars.ContextVar('few', default=False)


@contextlib.contextmanager
def few_kernels(wanted: bool) -> Iterator[None]:
    """Inside, what is traced may compute more to start fewer kernels, as an accelerator wants it.

    Results are the same up to rounding. jax keeps traces: trace a new function.
    """
    token = _FEW.set(wanted)
    try:
        yield
    finally:
        _FEW.reset(token)


def few_wanted() -> bool:
    """Whether the trace is inside of `few_kernels`."""
    return _FEW.get()


Given = TypeVar('Given')
Made = TypeVar('Made')


def either(
    due: jax.Array, update: Callable[[Given], Made], skip: Callable[[Given], Made], given: Given
) -> Made:
    """`update(given)` if `due` holds, else `skip(given)`.

    It is a branch. At one a GPU waits for the host, so where few kernels are wanted both are
    computed.
    """
    if not few_wanted():
        return jax.lax.cond(due, update, skip, given)
    return jax.tree.map(lambda x, y: jnp.where(due, x, y), update(given), skip(given))
