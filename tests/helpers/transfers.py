"""Makes implicit transfers an error, in both directions, also on a CPU."""

import contextlib
import functools

import jax
import numpy as np

# The methods by which an array silently becomes a value of Python or numpy.
CONVERSIONS = (
    '__array__', '__float__', '__int__', '__bool__', '__index__', '__complex__', '__iter__',
    '__format__', '__repr__', '__str__', 'item', 'tolist',
)  # fmt: skip


class ImplicitTransfer(AssertionError):
    """Data left the device, or came to it, without an explicit call."""


@contextlib.contextmanager
def forbidden(patch):
    """Raises at an implicit transfer; `jax.device_get` and `jax.device_put` are explicit.

    jax itself guards transfers to the device. On a CPU arrays share the host's memory, so transfers
    back can only be seen by watching the conversions. `patch` is pytest's `monkeypatch`. Yields a
    decorator for functions that may transfer.
    """
    explicit = [False]
    array = jax._src.array.ArrayImpl

    def watched(name, function):
        @functools.wraps(function)
        def convert(*args, **kwargs):
            if not explicit[0] and any(isinstance(arg, array) for arg in args):
                raise ImplicitTransfer(name)
            return function(*args, **kwargs)

        return convert

    with patch.context() as inside, jax.transfer_guard('disallow'):
        for name in CONVERSIONS:
            inside.setattr(array, name, watched(name, getattr(array, name)))
        value = array._value
        inside.setattr(array, '_value', property(watched('_value', value.fget)))
        for name in ('array', 'asarray', 'ascontiguousarray'):
            # numpy reads the memory of a CPU array without asking any method of it.
            inside.setattr(np, name, watched(name, getattr(np, name)))
        inside.setattr(jax, 'device_get', allowing(explicit, jax.device_get))
        yield functools.partial(allowing, explicit)


def allowing(explicit, function):
    """`function`, which may transfer."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        before, explicit[0] = explicit[0], True
        try:
            with jax.transfer_guard('allow'):
                return function(*args, **kwargs)
        finally:
            explicit[0] = before

    return call
