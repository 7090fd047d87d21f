"""Networks of state-action values `Q(s, a)` and state values `V(s)`."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn.kernels import few_wanted
from dtql_jax.nn.layers import LAYER_NORM_EPSILON, MLP, LayerNorm, Linear

TWINS = ('q1', 'q2')  # the names of a `TwinQ`'s parameters
JOINED = 'q1 and q2'
# The choices of FQL's `q_aggregate`: one value `[B]` of those of K critics `[K, B]`.
AGGREGATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    'min': lambda q: q.min(0),
    'mean': lambda q: q.mean(0),
}


class TwinQ(nn.Module):
    """Two critics `Q_k(s, a)` with separate parameters: `[B, O], [B, A] -> [2, B]`.

    Where few kernels are wanted, both are computed by one batched product. A CPU is slow at those.
    """

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    layer: Callable[..., nn.Module] = Linear
    norm_after: bool = False  # see `MLP`

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        x = jnp.concatenate([obs, action], axis=-1)
        layers = self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
        if self.is_initializing() or not few_wanted():
            return jnp.stack([MLP(*layers, name=name)(x)[..., 0] for name in TWINS])
        mlp = MLP(*layers, parent=None)
        (params,) = joined(dict(self.variables['params'])).values()
        # With an input of its own each, the first product is batched like the others.
        each = jnp.broadcast_to(x, (len(TWINS), *x.shape))
        return jax.vmap(lambda params, x: mlp.apply({'params': params}, x)[..., 0])(params, each)


def joined(tree: Any) -> Any:
    """A tree with the parameters of each `TwinQ`, or what else has their names, as one stack.

    A program that keeps them so does not stack them at each use.
    """

    def join(part: Any) -> Any:
        if not _has(part, TWINS):
            return part
        first, second = (part[name] for name in TWINS)
        return {JOINED: jax.tree.map(lambda *twins: jnp.stack(twins), first, second)}

    return jax.tree.map(join, tree, is_leaf=lambda part: _has(part, TWINS))


def apart(tree: Any) -> Any:
    """The tree that `joined` made a stack of."""

    def part(whole: Any) -> Any:
        if not _has(whole, (JOINED,)):
            return whole
        take = [operator.itemgetter(i) for i in range(len(TWINS))]
        return {k: jax.tree.map(take[i], whole[JOINED]) for i, k in enumerate(TWINS)}

    return jax.tree.map(part, tree, is_leaf=lambda whole: _has(whole, (JOINED,)))


def _has(tree: Any, names: Sequence[str]) -> bool:
    """Whether a part of a tree is a dict with these names and no others."""
    return isinstance(tree, dict) and tree.keys() == set(names)


class Value(nn.Module):
    """A state value `V(s)`: `[B, O] -> [B]`. With `input_norm` a LayerNorm is applied to s."""

    hidden: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    layer: Callable[..., nn.Module] = Linear
    layer_norm: bool = False
    input_norm: bool = False
    input_norm_epsilon: float = LAYER_NORM_EPSILON
    norm_after: bool = False  # see `MLP`

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = obs
        if self.input_norm:
            x = LayerNorm(epsilon=self.input_norm_epsilon, name='norm')(x)
        layers = self.hidden, 1, self.activation, self.layer_norm, self.layer, self.norm_after
        return MLP(*layers, name='v')(x)[..., 0]


class Critic(nn.Module):
    """`TwinQ` and `Value` as one network, for methods that train both by one loss."""

    q: TwinQ
    v: Value

    def __call__(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.q(obs, action), self.v(obs)
