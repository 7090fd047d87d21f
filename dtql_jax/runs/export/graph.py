"""A policy as a graph of ONNX operations, made from what jax traces."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from dtql_jax.runs.export import elementwise, shapes
from dtql_jax.runs.export.builder import Builder, Constants, Node, Value, narrow
from dtql_jax.runs.export.noise import Draw, bind
from dtql_jax.types import UserError

RULES = {**elementwise.rule, **shapes.rule}


@dataclasses.dataclass(frozen=True)
class Graph:
    """The nodes in order, the constants by name, and the inputs' shapes. The result is 'action'."""

    inputs: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, np.ndarray]
    nodes: tuple[Node, ...]
    action_dim: int


def make_graph(
    act: Callable[..., jax.Array],
    obs: np.ndarray,
    draws: Sequence[Draw],
    noise: Sequence[np.ndarray],
    fixed: bool,
    constants: Constants,
) -> Graph:
    """The graph of `act(obs [O], noise, unroll) -> action [A]`, of `noise.Policy`.

    Args:
        act: the policy.
        obs: an observation, for example.
        draws: the noise that it takes.
        noise: some noise.
        fixed: whether the noise becomes part of the graph, or is its input.
        constants: receives the graph's arrays.

    Raises:
        UserError: it uses an operation of jax that has no rule.
    """
    traced = jax.make_jaxpr(lambda obs, *noise: act(obs, noise, unroll=True))(obs, *noise)
    names = ['obs', *([None] * len(noise) if fixed else input_names(draws))]
    inputs = [
        Value(np.asarray(x), name) if name else narrow(x)
        for x, name in zip([obs, *noise], names, strict=True)
    ]
    builder = Builder(constants)
    (action,) = _convert(builder, traced, inputs)
    shape = traced.out_avals[0].shape
    last = Node('Expand', (builder.name(action), builder.name(builder.ints(shape))), 'action', {})
    nodes = _needed([*builder.nodes, last])
    used = {name for node in nodes for name in node.inputs}
    return Graph(
        inputs={x.name: x.shape for x in inputs if x.name is not None},
        constants={name: x for name, x in constants.items() if name in used},
        nodes=tuple(nodes),
        action_dim=shape[0],
    )


def input_names(draws: Sequence[Draw]) -> list[str]:
    """The name of each draw, such as `normal_0`."""
    return [f'{draw.kind}_{i}' for i, draw in enumerate(draws)]


def _convert(builder: Builder, traced: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """The results of a traced function without calls and loops."""
    jaxpr = traced.jaxpr
    values = dict(zip(jaxpr.constvars, map(narrow, traced.consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        literal = isinstance(atom, Literal)
        return narrow(np.asarray(atom.val, atom.aval.dtype)) if literal else values[atom]

    for equation in _live(jaxpr):
        operands = [read(atom) for atom in equation.invars]
        results = _results(builder, equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _live(jaxpr: Any) -> list[Any]:
    """The equations that the results need. What the noise was drawn from is not among them."""
    wanted, kept = set(jaxpr.outvars), []
    for equation in reversed(jaxpr.eqns):
        if wanted & set(equation.outvars):
            wanted |= {atom for atom in equation.invars if not isinstance(atom, Literal)}
            kept.append(equation)
    return kept[::-1]


def _results(builder: Builder, equation: Any, operands: Sequence[Value]) -> Sequence[Value]:
    """The results of an operation of jax."""
    name, many = equation.primitive.name, equation.primitive.multiple_results
    try:
        if name not in RULES:
            raise UserError('without a rule')
        found: Any = RULES[name](builder, equation, *operands)
        return found if many else [found]
    except UserError as error:
        if any(x.name is not None for x in operands):
            raise UserError(
                f'`act` uses the operation {name} of jax ({error}), which has no counterpart in '
                "the formats onnx and numpy: use `format`='stablehlo'"
            ) from None
    # Of constants alone: jax computes it.
    sizes = [atom.aval.shape for atom in equation.invars]
    known = [np.broadcast_to(x.array, n) for x, n in zip(operands, sizes, strict=True)]
    return [narrow(x) for x in bind(equation, known)]


def _needed(nodes: Sequence[Node]) -> list[Node]:
    """The nodes that the last one needs."""
    wanted, kept = set(nodes[-1].inputs) | {nodes[-1].result}, []
    for node in reversed(nodes):
        if node.result in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]
