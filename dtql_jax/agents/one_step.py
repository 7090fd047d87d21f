"""One-step policies `pi(a | s)` of DTQL (arXiv 2405.19690): one network call per action.

Every action is `max_action tanh(z)`. The paper has Gaussian and implicit policies. Its released
code has the Gaussian and, in its toy tasks only, an implicit policy: a denoiser's network without
tanh. `Deterministic` and `Implicit` are ours, with the Gaussian's layers. Only the Gaussian has a
density and thus a likelihood term.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn import losses
from dtql_jax.nn.layers import ACTIVATIONS, MLP, apply, orthogonal
from dtql_jax.nn.policies import GaussianPolicy
from dtql_jax.types import Params, Spec

MARGIN = 1e-3  # added to the bound of the box before arctanh: arctanh(1 / 1.001) = 3.8
LARGEST_SHARE = 1 - 1e-6  # of that bound; only boxes beyond 999 or actions outside exceed it

_orthogonal = functools.partial(nn.Dense, kernel_init=orthogonal)


@dataclasses.dataclass(frozen=True)
class OneStepPolicy:
    """A network, and how its outputs become actions.

    `at(params, obs)` computes what `sample` and `log_prob` share.
    """

    spec: Spec
    hidden: int
    layers: int = 3
    activation: str = 'relu'
    layer_norm: bool = False

    has_density: ClassVar[bool] = False

    @property
    def network(self) -> nn.Module:
        """An MLP with one output per action dim. Every layer starts orthogonal."""
        hidden, activation = (self.hidden,) * self.layers, ACTIVATIONS[self.activation]
        return MLP(hidden, self.spec.action_dim, activation, self.layer_norm, _orthogonal)

    def inputs(self, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        """The inputs of the network for `obs` `[..., O]` and `noise` `[..., A]`."""
        return (obs,)

    def at(self, params: Params, obs: jax.Array) -> Any:
        """pi at the states `obs` `[..., O]`, in a form that `sample` and `log_prob` take."""
        return apply(self.network, params, obs)

    def sample(self, pi: Any, noise: jax.Array) -> jax.Array:
        """Actions `[..., A]` from standard normal `noise` `[..., A]` and a result `pi` of `at`."""
        raise NotImplementedError

    def log_prob(self, pi: Any, action: jax.Array) -> jax.Array:
        """The log-likelihood `[...]` of `action` `[..., A]`; only if `has_density`."""
        raise NotImplementedError

    def squash(self, z: jax.Array) -> jax.Array:
        """`max_action tanh(z)`."""
        return self.spec.max_action * jnp.tanh(z)


class Gaussian(OneStepPolicy):
    """`z = mean(s) + std(s) noise`."""

    has_density: ClassVar[bool] = True

    @property
    def network(self) -> nn.Module:
        activation = ACTIVATIONS[self.activation]
        return GaussianPolicy(
            self.spec.action_dim, self.hidden, self.layers, activation, self.layer_norm
        )

    def sample(self, pi: tuple[jax.Array, jax.Array], noise: jax.Array) -> jax.Array:
        mean, log_std = pi
        return self.squash(mean + jnp.exp(log_std) * noise)

    def log_prob(self, pi: tuple[jax.Array, jax.Array], action: jax.Array) -> jax.Array:
        """`log N(z; mean, std)` of `z` before tanh, as released without tanh's Jacobian.

        It is finite for every action, also for one at the edge of the box or beyond.
        """
        share = action / (self.spec.max_action + MARGIN)
        z = jnp.arctanh(jnp.clip(share, -LARGEST_SHARE, LARGEST_SHARE))
        return losses.gaussian_log_prob(z, *pi)


class Deterministic(OneStepPolicy):
    """`z = mean(s)`. The noise determines only the number of actions."""

    def sample(self, pi: jax.Array, noise: jax.Array) -> jax.Array:
        return jnp.broadcast_to(self.squash(pi), noise.shape)


class Implicit(OneStepPolicy):
    """`z = f(s, noise)`: it can represent any distribution, but has no density."""

    def inputs(self, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        obs = jnp.broadcast_to(obs, (*noise.shape[:-1], obs.shape[-1]))
        return (jnp.concatenate([obs, noise], axis=-1),)

    def at(self, params: Params, obs: jax.Array) -> tuple[Params, jax.Array]:
        return params, obs

    def sample(self, pi: tuple[Params, jax.Array], noise: jax.Array) -> jax.Array:
        params, obs = pi
        return self.squash(apply(self.network, params, *self.inputs(obs, noise)))


POLICIES: dict[str, type[OneStepPolicy]] = {
    'gaussian': Gaussian,
    'deterministic': Deterministic,
    'implicit': Implicit,
}
