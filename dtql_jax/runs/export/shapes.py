"""Operations of jax that move, join, sum or choose numbers, as ONNX operations.

An operand has the rank that jax gives it, and size 1 on each axis along which it repeats.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.runs.export.builder import Builder, Rules, Value
from dtql_jax.types import UserError

rule = Rules()

REDUCTIONS = {
    'reduce_sum': 'ReduceSum', 'reduce_prod': 'ReduceProd', 'reduce_max': 'ReduceMax',
    'reduce_min': 'ReduceMin',
}  # fmt: skip


def _logical(equation: Any, i: int = 0) -> tuple[int, ...]:
    """The shape that jax knows of an operand."""
    return equation.invars[i].aval.shape


@rule('reshape', 'squeeze', 'expand_dims')
def _reshape(b: Builder, equation: Any, x: Value) -> Value:
    if equation.params.get('dimensions') and equation.primitive.name == 'reshape':
        raise UserError('with an order of axes')
    old, new = _logical(equation), equation.outvars[0].aval.shape
    if x.shape != old and [n for n in old if n != 1] == [n for n in new if n != 1]:
        kept = iter([m for m, n in zip(x.shape, old, strict=True) if n != 1])
        return b.reshape(x, [1 if n == 1 else next(kept) for n in new])
    return b.reshape(b.full(x, old), new)


@rule('broadcast_in_dim')
def _broadcast(b: Builder, equation: Any, x: Value) -> Value:
    shape, places = equation.params['shape'], equation.params['broadcast_dimensions']
    return b.reshape(x, [x.shape[places.index(i)] if i in places else 1 for i in range(len(shape))])


@rule('transpose')
def _transpose(b: Builder, equation: Any, x: Value) -> Value:
    return b.transpose(x, equation.params['permutation'])


@rule('concatenate')
def _concatenate(b: Builder, equation: Any, *operands: Value) -> Value:
    axis = equation.params['dimension']
    return _joined(b, operands, [_logical(equation, i) for i in range(len(operands))], axis)


def _joined(
    b: Builder, operands: Sequence[Value], logical: Sequence[tuple[int, ...]], axis: int
) -> Value:
    """Operands side by side; an axis along which all repeat stays narrow."""
    common = [max(sizes) for sizes in zip(*(x.shape for x in operands), strict=True)]
    wide = [
        b.full(x, [n[i] if i == axis else m for i, m in enumerate(common)])
        for x, n in zip(operands, logical, strict=True)
    ]
    return wide[0] if len(wide) == 1 else b.emit('Concat', *wide, axis=axis)


@rule('stack')
def _stack(b: Builder, equation: Any, *operands: Value) -> Value:
    axis = equation.params['axis']
    shapes = [(*x.shape[:axis], 1, *x.shape[axis:]) for x in operands]
    rows = [b.reshape(x, shape) for x, shape in zip(operands, shapes, strict=True)]
    return _joined(b, rows, shapes, axis)


def _cut(
    b: Builder, x: Value, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]
) -> Value:
    """A part of each axis. A repeated axis stays as it is."""
    axes = [
        i
        for i, (size, *part) in enumerate(zip(x.shape, starts, ends, steps, strict=True))
        if size > 1 and part != [0, size, 1]
    ]
    if not axes:
        return x
    ints = [b.ints([values[i] for i in axes]) for values in (starts, ends)]
    return b.emit('Slice', x, *ints, b.ints(axes), b.ints([steps[i] for i in axes]))


@rule('slice')
def _slice(b: Builder, equation: Any, x: Value) -> Value:
    p = equation.params
    return _cut(b, x, p['start_indices'], p['limit_indices'], p['strides'] or [1] * len(x.shape))


@rule('split')
def _split(b: Builder, equation: Any, x: Value) -> list[Value]:
    axis, shape = equation.params['axis'], _logical(equation)
    parts, start = [], 0
    for size in equation.params['sizes']:
        starts = [start if i == axis else 0 for i in range(len(shape))]
        ends = [start + size if i == axis else n for i, n in enumerate(shape)]
        parts.append(_cut(b, x, starts, ends, [1] * len(shape)))
        start += size
    return parts


@rule('unstack')
def _unstack(b: Builder, equation: Any, x: Value) -> list[Value]:
    axis, shape = equation.params['axis'], _logical(equation)
    rows = []
    for k in range(shape[axis]):
        starts = [k if i == axis else 0 for i in range(len(shape))]
        ends = [k + 1 if i == axis else n for i, n in enumerate(shape)]
        row = _cut(b, x, starts, ends, [1] * len(shape))
        rows.append(b.reshape(row, [n for i, n in enumerate(row.shape) if i != axis]))
    return rows


@rule('tile')
def _tile(b: Builder, equation: Any, x: Value) -> Value:
    for axis, times in enumerate(equation.params['reps']):
        if times > 1 and x.shape[axis] > 1:
            x = b.emit('Concat', *[x] * times, axis=axis)
    return x


@rule('rev')
def _rev(b: Builder, equation: Any, x: Value) -> Value:
    axes = [i for i in equation.params['dimensions'] if x.shape[i] > 1]
    backwards, start = b.ints([-1] * len(axes)), b.ints([-(2**31)] * len(axes))
    return b.emit('Slice', x, backwards, start, b.ints(axes), backwards)


@rule('pad')
def _pad(b: Builder, equation: Any, x: Value, value: Value) -> Value:
    low, high, inner = zip(*equation.params['padding_config'], strict=True)
    if min(*low, *high) < 0 or any(inner):
        raise UserError('with negative or inner padding')
    return b.emit('Pad', b.full(x, _logical(equation)), b.ints([*low, *high]), value)


# Sums, products, indices.


@rule(*REDUCTIONS)
def _reduce(b: Builder, equation: Any, x: Value) -> Value:
    operation, axes = REDUCTIONS[equation.primitive.name], equation.params['axes']
    if operation in ('ReduceSum', 'ReduceProd'):  # repeats count
        x = b.full_axes(x, _logical(equation), axes)
    return b.emit(operation, x, b.ints(axes), keepdims=0)


@rule('argmax', 'argmin')
def _argmax(b: Builder, equation: Any, x: Value) -> Value:
    (axis,) = equation.params['axes']
    x = b.full_axes(x, _logical(equation), [axis])
    operation = 'ArgMax' if equation.primitive.name == 'argmax' else 'ArgMin'
    found = b.emit(operation, x, axis=int(axis), keepdims=0)
    return b.cast(found, equation.params['index_dtype'])


@rule('cumsum')
def _cumsum(b: Builder, equation: Any, x: Value) -> Value:
    axis = int(equation.params['axis'])
    x = b.full_axes(x, _logical(equation), [axis])
    return b.emit('CumSum', x, Value(np.array(axis)), reverse=int(equation.params['reverse']))


@rule('dot_general')
def _dot(b: Builder, equation: Any, x: Value, y: Value) -> Value:
    (x_sum, y_sum), (x_batch, y_batch) = equation.params['dimension_numbers']
    x_shape, y_shape = _logical(equation, 0), _logical(equation, 1)
    x, y = b.full_axes(x, x_shape, x_sum), b.full_axes(y, y_shape, y_sum)
    x_free = [i for i in range(len(x_shape)) if i not in (*x_sum, *x_batch)]
    y_free = [i for i in range(len(y_shape)) if i not in (*y_sum, *y_batch)]
    x = b.transpose(x, [*x_batch, *x_free, *x_sum])
    y = b.transpose(y, [*y_batch, *y_sum, *y_free])
    k, n = len(x_batch), len(x_sum)
    rows, columns = x.shape[k : len(x.shape) - n], y.shape[k + n :]
    total = math.prod(x.shape[len(x.shape) - n :])
    x = b.reshape(x, [*x.shape[:k], math.prod(rows), total])
    y = b.reshape(y, [*y.shape[:k], total, math.prod(columns)])
    product = b.emit('MatMul', x, y)
    return b.reshape(product, [*product.shape[:k], *rows, *columns])


@rule('dynamic_slice')
def _dynamic_slice(b: Builder, equation: Any, x: Value, *starts: Value) -> Value:
    shape, sizes = _logical(equation), equation.params['slice_sizes']
    for axis, (n, size, start) in enumerate(zip(shape, sizes, starts, strict=True)):
        if size < n and x.shape[axis] > 1:
            first = b.cast(b.reshape(start, [1]), np.int64)
            first = b.emit('Min', b.emit('Max', first, b.ints([0])), b.ints([n - size]))
            index = b.emit('Add', first, b.ints(range(size)))
            x = b.emit('Gather', x, index, axis=axis)
    return x


@rule('gather')
def _gather(b: Builder, equation: Any, x: Value, index: Value) -> Value:
    """Whole rows by their numbers, as `x[i]` and `jnp.take` ask for."""
    p, shape = equation.params, _logical(equation)
    numbers = p['dimension_numbers']
    axis = numbers.start_index_map[0]
    row = tuple(1 if i == axis else n for i, n in enumerate(shape))
    batched = numbers.operand_batching_dims or len(numbers.start_index_map) > 1
    if batched or p['slice_sizes'] != row:
        raise UserError('of anything but whole rows')
    x = b.full(x, shape)
    asked = b.cast(b.full(index, _logical(equation, 1)), np.int64)
    asked = b.emit('Min', b.emit('Max', asked, b.ints([0])), b.ints([shape[axis] - 1]))
    many = asked.shape[:-1]
    x = b.emit('Gather', x, b.reshape(asked, many), axis=axis)
    # From the rows' own place to where jax wants them.
    rest = [n for i, n in enumerate(shape) if i != axis]
    order = [*range(axis, axis + len(many)), *range(axis), *range(axis + len(many), x.array.ndim)]
    x = b.transpose(x, order)
    if numbers.collapsed_slice_dims != (axis,):
        rest.insert(axis, 1)
    x = b.reshape(x, [*many, *rest])
    places = [i for i in range(x.array.ndim) if i not in numbers.offset_dims]
    return b.transpose(x, np.argsort([*places, *numbers.offset_dims]).tolist())
