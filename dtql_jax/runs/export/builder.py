"""The parts of a graph of ONNX operations, and how they are collected.

Where rows repeat, as an observation beside each candidate does, an array is kept with an axis of
size 1, and becomes full only where an operation needs it. So the graph without chance, whose
candidates are equal, computes one of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.runs.export.numpy_policy import CASTS, OPERATIONS
from dtql_jax.types import UserError

CAST_TO = {np.dtype(kind): number for number, kind in CASTS.items()}


class Value(NamedTuple):
    """An array of the graph; without a name a constant, else with the numbers of an example."""

    array: np.ndarray
    name: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


class Node(NamedTuple):
    """One ONNX operation with one result."""

    operation: str
    inputs: tuple[str, ...]
    result: str
    attributes: dict[str, Any]


class Constants(dict[str, np.ndarray]):
    """Arrays by name, for graphs that share them; equal ones have one name."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self, array: np.ndarray) -> str:
        """The name of an array, which is added if it is new."""
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._names:
            self._names[key] = f'c{len(self)}'
            self[self._names[key]] = np.frombuffer(key[2], array.dtype).reshape(array.shape)
        return self._names[key]


class Builder:
    """Collects the nodes of a graph."""

    def __init__(self, constants: Constants):
        self.nodes: list[Node] = []
        self._constants = constants

    def emit(self, operation: str, *inputs: Value, **attributes: Any) -> Value:
        """Adds a node, or computes it at once where all inputs are constant."""
        with np.errstate(all='ignore'):
            array = np.asarray(OPERATIONS[operation](*(x.array for x in inputs), **attributes))
        if all(x.name is None for x in inputs):
            return Value(array)
        name = f'v{len(self.nodes)}'
        self.nodes.append(Node(operation, tuple(map(self.name, inputs)), name, attributes))
        return Value(array, name)

    def name(self, x: Value) -> str:
        """The name of a value."""
        return self._constants.name(x.array) if x.name is None else x.name

    def ints(self, values: Sequence[int]) -> Value:
        """A constant for what ONNX reads as an input: shapes, axes, indices."""
        return Value(np.array(values, np.int64).reshape(len(values)))

    def cast(self, x: Value, dtype: Any) -> Value:
        """A value in another type."""
        dtype = np.dtype(dtype)
        if x.array.dtype == dtype:
            return x
        if dtype not in CAST_TO:
            raise UserError(f'numbers of type {dtype}')
        return self.emit('Cast', x, to=CAST_TO[dtype])

    def full(self, x: Value, shape: Sequence[int]) -> Value:
        """A value with its repeated axes written out."""
        return x if x.shape == tuple(shape) else self.emit('Expand', x, self.ints(shape))

    def full_axes(self, x: Value, shape: Sequence[int], axes: Sequence[int]) -> Value:
        """A value of the logical `shape` with some of its repeated axes written out."""
        return self.full(x, [shape[i] if i in axes else n for i, n in enumerate(x.shape)])

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """A value in another shape of the same size."""
        return x if x.shape == tuple(shape) else self.emit('Reshape', x, self.ints(shape))

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """A value with its axes in another order."""
        same = list(order) == sorted(order)
        return x if same else self.emit('Transpose', x, perm=[int(i) for i in order])


def narrow(array: Any) -> Value:
    """A constant, with size 1 for each axis along which it repeats."""
    array = np.asarray(array)
    for axis, size in enumerate(array.shape):
        first = array.take([0], axis) if size > 1 else array
        if size > 1 and np.array_equal(np.broadcast_to(first, array.shape), array, equal_nan=False):
            array = first
    return Value(array)


# (builder, equation, *operands) -> results, where an operand may have repeated axes of size 1.
Rule = Callable[..., Value | list[Value]]


class Rules(dict[str, Rule]):
    """How operations of jax become ONNX operations, by their names."""

    def __call__(self, *names: str) -> Callable[[Rule], Rule]:
        """Makes a function the rule for these operations."""

        def register(function: Rule) -> Rule:
            self.update(dict.fromkeys(names, function))
            return function

        return register
