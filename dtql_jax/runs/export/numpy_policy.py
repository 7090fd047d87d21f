"""A trained policy that needs NumPy alone; `README.md` beside this file says of what.

    policy = Policy()                                    # reads the folder of this file
    action = policy(obs, np.random.default_rng(0))       # draws noise, as in training
    action = policy.act(obs, noise)                      # with noise of your own
    action = policy.deterministic(obs)                   # without chance

An observation is `[O]`, an action `[A]`. `config.json` has the policy as a graph of ONNX operations
(opset 18), `weights.safetensors` its arrays.
"""

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

TYPES = {'F32': np.float32, 'I32': np.int32, 'I64': np.int64, 'BOOL': np.bool_}
CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}  # ONNX numbers its types


def reduced(function: Any) -> Any:
    return lambda x, axes, keepdims: function(x, axis=tuple(axes), keepdims=bool(keepdims))


def cut(x: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> Any:
    parts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = slice(start, end if end >= 0 else None, step)
    return x[tuple(parts)]


def expand(x: Any, shape: Any) -> Any:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


def cumulated(x: Any, axis: Any, reverse: int) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


OPERATIONS = {
    'Add': np.add, 'Sub': np.subtract, 'Mul': np.multiply, 'Div': np.divide, 'Pow': np.power,
    'Max': np.maximum, 'Min': np.minimum, 'Mod': lambda a, b, fmod: np.fmod(a, b),
    'Neg': np.negative, 'Abs': np.abs, 'Sign': np.sign, 'Floor': np.floor, 'Ceil': np.ceil,
    'Round': np.rint, 'Sqrt': np.sqrt, 'Reciprocal': np.reciprocal, 'Exp': np.exp, 'Log': np.log,
    'Tanh': np.tanh, 'Sin': np.sin, 'Cos': np.cos, 'Tan': np.tan, 'Asin': np.arcsin,
    'Acos': np.arccos, 'Atan': np.arctan, 'Sinh': np.sinh, 'Cosh': np.cosh,
    'Sigmoid': lambda x: np.tanh(x * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5),
    'Erf': lambda x: np.array([math.erf(v) for v in x.flat], x.dtype).reshape(x.shape),
    'Equal': np.equal, 'Less': np.less, 'LessOrEqual': np.less_equal, 'Greater': np.greater,
    'GreaterOrEqual': np.greater_equal, 'And': np.logical_and, 'Or': np.logical_or,
    'Xor': np.logical_xor, 'Not': np.logical_not, 'Where': np.where, 'MatMul': np.matmul,
    'Cast': lambda x, to: x.astype(CASTS[to]), 'Expand': expand, 'Slice': cut,
    'Reshape': lambda x, shape: x.reshape(tuple(shape)),
    'Transpose': lambda x, perm: np.transpose(x, perm),
    'Concat': lambda *x, axis: np.concatenate(x, axis),
    'Gather': lambda x, index, axis: np.take(x, index, axis),
    'Pad': lambda x, pads, value: np.pad(x, pads.reshape(2, -1).T, constant_values=value),
    'CumSum': cumulated,
    'ArgMax': lambda x, axis, keepdims: np.argmax(x, axis, keepdims=bool(keepdims)),
    'ArgMin': lambda x, axis, keepdims: np.argmin(x, axis, keepdims=bool(keepdims)),
    'ReduceSum': reduced(np.sum), 'ReduceProd': reduced(np.prod), 'ReduceMax': reduced(np.max),
    'ReduceMin': reduced(np.min),
}  # fmt: skip


def read_weights(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a header's length, the header as JSON, raw numbers."""
    raw = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], 'little')
    header = json.loads(raw[8:start])
    header.pop('__metadata__', None)
    return {
        name: np.frombuffer(
            raw[start + x['data_offsets'][0] : start + x['data_offsets'][1]], TYPES[x['dtype']]
        ).reshape(x['shape'])
        for name, x in header.items()
    }


def compute(nodes: Iterable[Any], values: dict[str, Any]) -> np.ndarray:
    """The action of a graph, from its inputs and arrays by name."""
    with np.errstate(all='ignore'):  # infinities are part of some computations
        for operation, names, result, attributes in nodes:
            values[result] = OPERATIONS[operation](*(values[n] for n in names), **attributes)
    return values['action']


class Policy:
    """The policy of a folder."""

    def __init__(self, folder: str | pathlib.Path | None = None):
        folder = pathlib.Path(folder or pathlib.Path(__file__).parent)
        config = json.loads((folder / 'config.json').read_text())
        self.noise, self.graphs = config['noise'], config['graphs']
        self.weights = read_weights(folder / 'weights.safetensors')

    def __call__(self, obs: Any, rng: np.random.Generator) -> np.ndarray:
        return self.act(obs, self.draw(rng))

    def draw(self, rng: np.random.Generator) -> list[Any]:
        """The noise of one action: standard normal, or uniform in [0, 1)."""
        draws: dict[str, Any] = {'normal': rng.standard_normal, 'uniform': rng.random}
        return [draws[x['kind']](x['shape'], dtype=np.float32) for x in self.noise]

    def act(self, obs: Any, noise: Iterable[Any]) -> np.ndarray:
        names = [x['name'] for x in self.noise]
        return self.run('policy', {'obs': obs, **dict(zip(names, noise, strict=True))})

    def deterministic(self, obs: Any) -> np.ndarray:
        return self.run('deterministic', {'obs': obs})

    def run(self, graph: str, inputs: dict[str, Any]) -> np.ndarray:
        values = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
        return compute(self.graphs[graph], values | self.weights)
