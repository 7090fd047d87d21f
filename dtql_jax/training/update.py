"""The update of a phase: a batch, then the agent's step. It is traced once."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from dtql_jax.agents.base import Agent, State
from dtql_jax.nn.critics import joined
from dtql_jax.nn.kernels import few_kernels
from dtql_jax.training.compilation import own_numbers
from dtql_jax.types import Metrics, Phase, Transition

# Batch indices are drawn with keys of their own. No step reaches this tag, so no key is used twice.
INDEX_TAG = 0xFFFFFFFF


def index_key(key: jax.Array, step: jax.Array) -> jax.Array:
    """The key of the batch of an update, from the key of the run."""
    return jax.random.fold_in(jax.random.fold_in(key, INDEX_TAG), step)


def sample(state: State, data: Transition, batch_size: int) -> Transition:
    """A batch drawn with replacement, uniformly over the whole dataset, from the step's key."""
    key = index_key(state.key, state.step)
    index = jax.random.randint(key, (batch_size,), 0, data.reward.shape[0])
    return jax.tree.map(lambda x: x[index], data)


Step = Callable[[State, Transition], tuple[State, Metrics]]


class Update(NamedTuple):
    """An update of one lane, the shapes of its metrics, and its floating-point operations.

    Where few kernels are wanted, `step` takes and returns a state as `joined` makes it.
    """

    step: Step
    metrics: Metrics
    flops: float


@own_numbers()
def trace_update(agent: Agent, phase: Phase, lane: State, data: Transition, few: bool) -> Update:
    """Traces an update, which takes a second or more. Programs are built from the trace.

    Args:
        agent: gives the precision of products.
        phase: gives the agent's step and the size of batches.
        lane: the shapes of a lane's state.
        data: the dataset, or its shapes.
        few: whether few kernels are wanted, see `few_kernels`.
    """

    def update(state: State, data: Transition) -> tuple[State, Metrics]:
        return agent.precise(phase.update)(state, sample(state, data, phase.batch_size))

    # Programs may run under any mesh, so the trace knows none.
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), data)
    lane = jax.eval_shape(joined, lane) if few else lane
    with few_kernels(few):
        traced, shapes = jax.make_jaxpr(update, return_shape=True)(lane, rows)
    run, structure = jaxpr_as_fun(traced), jax.tree.structure(shapes)

    def step(state: State, data: Transition) -> tuple[State, Metrics]:
        return jax.tree.unflatten(structure, run(*jax.tree.leaves((state, data))))

    return Update(step, shapes[1], flops(traced.jaxpr))


def flops(traced: Jaxpr) -> float:
    """The floating-point operations of the matrix products in a trace.

    Of a branch the dearer side counts, and of a loop of unknown length one pass.
    """
    total = 0.0
    for equation in traced.eqns:
        if equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            left: Any = equation.invars[0].aval
            out: Any = equation.outvars[0].aval
            total += 2.0 * out.size * math.prod(left.shape[axis] for axis in contracted)
        inner = [flops(part) for value in equation.params.values() for part in _traces(value)]
        choose = max if equation.primitive.name == 'cond' else sum
        passes = equation.params['length'] if equation.primitive.name == 'scan' else 1
        total += passes * choose([0.0, *inner])
    return total


def _traces(value: object) -> list[Jaxpr]:
    """The traces in a parameter of an equation."""
    parts = value if isinstance(value, tuple | list) else (value,)
    traces = [part.jaxpr if isinstance(part, ClosedJaxpr) else part for part in parts]
    return [part for part in traces if isinstance(part, Jaxpr)]
