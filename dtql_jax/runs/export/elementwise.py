"""Operations of jax on each number by itself, as ONNX operations."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dtql_jax.runs.export.builder import Builder, Rules, Value
from dtql_jax.types import UserError

rule = Rules()

ELEMENTWISE = {
    'add': 'Add', 'add_any': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'max': 'Max', 'min': 'Min',
    'neg': 'Neg', 'abs': 'Abs', 'eq': 'Equal', 'lt': 'Less', 'le': 'LessOrEqual', 'gt': 'Greater',
    'ge': 'GreaterOrEqual',
}  # fmt: skip
OF_FLOATS = {
    'div': 'Div', 'sign': 'Sign', 'floor': 'Floor', 'ceil': 'Ceil', 'sqrt': 'Sqrt', 'exp': 'Exp',
    'log': 'Log', 'tanh': 'Tanh', 'sin': 'Sin', 'cos': 'Cos', 'tan': 'Tan', 'asin': 'Asin',
    'acos': 'Acos', 'atan': 'Atan', 'sinh': 'Sinh', 'cosh': 'Cosh', 'logistic': 'Sigmoid',
    'erf': 'Erf',
}  # fmt: skip
OF_BOOLS = {'and': 'And', 'or': 'Or', 'xor': 'Xor', 'not': 'Not'}


@rule(*ELEMENTWISE, *OF_FLOATS, *OF_BOOLS)
def _elementwise(b: Builder, equation: Any, *operands: Value) -> Value:
    name = equation.primitive.name
    for table, dtype in ((OF_FLOATS, np.float32), (OF_BOOLS, np.bool_)):
        if name in table and any(x.array.dtype != dtype for x in operands):
            raise UserError(f'on numbers that are not {np.dtype(dtype)}')
    return b.emit((ELEMENTWISE | OF_FLOATS | OF_BOOLS)[name], *operands)


def _one(x: Value, number: float) -> Value:
    """A constant of the type of `x`."""
    return Value(np.array(number, x.array.dtype))


@rule('copy', 'copy_p', 'stop_gradient')
def _same(b: Builder, equation: Any, x: Value) -> Value:
    return x


@rule('convert_element_type')
def _cast(b: Builder, equation: Any, x: Value) -> Value:
    return b.cast(x, equation.params['new_dtype'])


COMPOSED: dict[str, Callable[..., Value]] = {
    'ne': lambda b, x, y: b.emit('Not', b.emit('Equal', x, y)),
    'square': lambda b, x: b.emit('Mul', x, x),
    'rsqrt': lambda b, x: b.emit('Reciprocal', b.emit('Sqrt', x)),
    'log1p': lambda b, x: b.emit('Log', b.emit('Add', x, _one(x, 1))),
    'expm1': lambda b, x: b.emit('Sub', b.emit('Exp', x), _one(x, 1)),
    'exp2': lambda b, x: b.emit('Exp', b.emit('Mul', x, _one(x, math.log(2)))),
    'erfc': lambda b, x: b.emit('Sub', _one(x, 1), b.emit('Erf', x)),
    'rem': lambda b, x, y: b.emit('Mod', x, y, fmod=1),
    'pow': lambda b, x, y: b.emit('Pow', x, b.cast(y, x.array.dtype)),
    'clamp': lambda b, low, x, high: b.emit('Min', b.emit('Max', x, low), high),
}


@rule(*COMPOSED)
def _composed(b: Builder, equation: Any, *operands: Value) -> Value:
    return COMPOSED[equation.primitive.name](b, *operands)


@rule('integer_pow')
def _integer_pow(b: Builder, equation: Any, x: Value) -> Value:
    power = equation.params['y']
    return b.emit('Mul', x, x) if power == 2 else b.emit('Pow', x, _one(x, power))


@rule('round')
def _round(b: Builder, equation: Any, x: Value) -> Value:
    if equation.params['rounding_method'] == jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        return b.emit('Round', x)
    away = b.emit('Floor', b.emit('Add', b.emit('Abs', x), _one(x, 0.5)))
    return b.emit('Mul', b.emit('Sign', x), away)


@rule('select_n')
def _select(b: Builder, equation: Any, which: Value, *cases: Value) -> Value:
    if which.array.dtype != np.bool_:
        raise UserError('among more than two')
    return b.emit('Where', which, cases[1], cases[0])
