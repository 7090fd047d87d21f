"""A policy's chance apart from its computation: `act(obs, key)` as a function of noise.

An agent draws by `jax.random` inside `act`. Tracing `act` shows each draw as a call of the jitted
function behind `jax.random.normal` or `jax.random.uniform`; the other distributions call one of
these. So no agent needs to say what it draws.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from dtql_jax.types import UserError

# The jitted functions whose results are noise, with their distributions.
KINDS = {'_normal': 'normal', '_uniform': 'uniform'}
MEDIAN = {'normal': 0.0, 'uniform': 0.5}


class Draw(NamedTuple):
    """Independent numbers that one draw takes: standard normal, or uniform in [0, 1)."""

    kind: str
    shape: tuple[int, ...]


# Noise for a draw; it is also given the function that draws it as `act` would.
Source = Callable[[Draw, Callable[[], jax.Array]], jax.Array]


class Policy:
    """A policy whose noise is an argument.

    Args:
        act: `act(obs [O], key) -> action [A]`.
        obs_dim: the size of an observation.

    Attributes:
        draws: what `act` draws, in order. Loops count as often as they turn.

    Raises:
        UserError: it draws numbers that derive from neither normal nor uniform ones.
    """

    def __init__(self, act: Callable[[jax.Array, jax.Array], jax.Array], obs_dim: int):
        self.obs_dim = obs_dim
        self._traced = jax.make_jaxpr(act)(jnp.zeros(obs_dim), jax.random.key(0))
        draws: list[Draw] = []

        def source(draw: Draw, really: Callable[[], jax.Array]) -> jax.Array:
            draws.append(draw)
            return really()

        jax.eval_shape(lambda key: self._run(key, source), jax.random.key(0))
        self.draws = tuple(draws)

    def draw(self, key: jax.Array) -> list[jax.Array]:
        """The noise that `act` would draw from `key`."""
        noise = []

        def source(draw: Draw, really: Callable[[], jax.Array]) -> jax.Array:
            noise.append(really())
            return noise[-1]

        self._run(key, source)
        return noise

    def _run(self, key: jax.Array, source: Source) -> list[Any]:
        return _evaluate(self._traced, [jnp.zeros(self.obs_dim), key], source, False)

    def act(self, obs: jax.Array, noise: Sequence[Any], unroll: bool = False) -> jax.Array:
        """The action `[A]` for one observation `[O]` with the noise of `draws`.

        Loops that draw are unrolled, with `unroll` the others too, which compile for longer then.
        """
        left, key = iter(noise), jax.random.key(0)
        (action,) = _evaluate(self._traced, [obs, key], lambda draw, really: next(left), unroll)
        return action

    def median(self) -> list[np.ndarray]:
        """Noise without chance: the median of each number."""
        return [np.full(draw.shape, MEDIAN[draw.kind], np.float32) for draw in self.draws]


def _evaluate(
    traced: ClosedJaxpr, inputs: Sequence[Any], source: Source, unroll: bool
) -> list[Any]:
    """The results of a traced function, with the noise of `source`. It can itself be traced."""
    jaxpr = traced.jaxpr
    values = dict(zip(jaxpr.constvars, traced.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars], source, unroll)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any], source: Source, unroll: bool) -> Sequence[Any]:
    """The results of one equation."""
    name, params = equation.primitive.name, equation.params
    keyed = any(map(_is_key, equation.invars))
    if keyed and params.get('name') in KINDS:
        return [_drawn(equation, inputs, source)]
    if name == 'scan':
        loop = keyed or unroll
        return _unrolled(equation, inputs, source, unroll) if loop else bind(equation, inputs)
    called = params.get('jaxpr', params.get('call_jaxpr'))
    if called is not None:
        closed = called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())
        return _evaluate(closed, inputs, source, unroll)
    if keyed and not all(map(_is_key, equation.outvars)):
        raise UserError(
            f'`act` draws by the operation {name} of jax: an export takes normal and uniform '
            'noise, so draw by jax.random.normal, jax.random.uniform or what derives from them, '
            'outside of conditions'
        )
    return bind(equation, inputs)


def _drawn(equation: Any, inputs: list[Any], source: Source) -> jax.Array:
    """The result of a draw."""
    (out,) = equation.outvars
    draw = Draw(KINDS[equation.params['name']], out.aval.shape)
    if draw.kind == 'normal':
        return source(draw, lambda: bind(equation, inputs)[0])
    # Beside the key, the two bounds, in an order that depends on the trace.
    places = [i for i, atom in enumerate(equation.invars) if not _is_key(atom)]
    a, b = (jnp.float32(inputs[i]) for i in places)

    def unit() -> jax.Array:
        ends = (jnp.full_like(a, (a > b).any()), jnp.full_like(b, (b > a).any()))
        bounds = dict(zip(places, ends, strict=True))
        return bind(equation, [bounds.get(i, x) for i, x in enumerate(inputs)])[0]

    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    return jnp.maximum(low, source(draw, unit) * (high - low) + low)


def _unrolled(equation: Any, inputs: list[Any], source: Source, unroll: bool) -> list[Any]:
    """The results of a loop whose number of turns is known."""
    params = equation.params
    fixed, carried = params['num_consts'], params['num_carry']
    consts, carry = inputs[:fixed], inputs[fixed : fixed + carried]
    rows = inputs[fixed + carried :]
    turns = range(params['length'])
    stacks: dict[int, list[Any]] = {}
    for i in reversed(turns) if params['reverse'] else turns:
        row = [jax.lax.index_in_dim(x, i, keepdims=False) for x in rows]
        results = _evaluate(params['jaxpr'], [*consts, *carry, *row], source, unroll)
        carry, stacks[i] = results[:carried], results[carried:]
    return [*carry, *(jnp.stack(x) for x in zip(*(stacks[i] for i in turns), strict=True))]


def bind(equation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """The results of an equation's own operation."""
    results = equation.primitive.bind(*inputs, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def _is_key(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jax.dtypes.prng_key)
