"""One-step policies `pi(a | s)` of DTQL (arXiv 2405.19690): one call of a network per action.

The paper has Gaussian and implicit policies; its released code has the Gaussian and, in its toy
tasks, an implicit one: a denoiser's network without a squashing. `Deterministic` and `Implicit` are
ours, with the Gaussian's layers. Every action is `max_action tanh(z)`. Only the Gaussian has a
density, and so a likelihood term.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.nn import losses
from dtql_jax.nn.layers import ACTIVATIONS, MLP, orthogonal
from dtql_jax.nn.policies import GaussianPolicy
from dtql_jax.types import Params, Spec

_orthogonal = functools.partial(nn.Dense, kernel_init=orthogonal)


@dataclasses.dataclass(frozen=True)
class OneStepPolicy:
    """A network and how its outputs become actions.

    `at(params, obs)` is pi at these states: what `sample` and `log_prob` share, computed once.
    """

    spec: Spec
    hidden: int
    layers: int = 3
    activation: str = 'relu'
    layer_norm: bool = False

    has_density: ClassVar[bool] = False

    @property
    def network(self) -> nn.Module:
        """Hidden layers to one output per dimension of the action, every layer orthogonal."""
        hidden, activation = (self.hidden,) * self.layers, ACTIVATIONS[self.activation]
        return MLP(hidden, self.spec.action_dim, activation, self.layer_norm, _orthogonal)

    def inputs(self, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        """The network's inputs for `obs` `[..., O]` and `noise` `[..., A]`."""
        return (obs,)

    def at(self, params: Params, obs: jax.Array) -> Any:
        """pi at the states `obs` `[..., O]`."""
        return self.network.apply({'params': params}, obs)

    def sample(self, pi: Any, noise: jax.Array) -> jax.Array:
        """Actions `[..., A]` from standard normal `noise` `[..., A]`; `pi` is a result of `at`."""
        raise NotImplementedError

    def log_prob(self, pi: Any, action: jax.Array) -> jax.Array:
        """The log-likelihood `[...]` of `action` `[..., A]`, where `has_density`."""
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
        """`log N(z; mean, std)` of `z` before tanh, without tanh's Jacobian, as released."""
        # Data at the very edge of the box stays finite: arctanh(1 / 1.001) = 3.8.
        z = jnp.arctanh(action / (self.spec.max_action + 1e-3))
        return losses.gaussian_log_prob(z, *pi)


class Deterministic(OneStepPolicy):
    """`z = mean(s)`; the noise only says how many actions there are."""

    def sample(self, pi: jax.Array, noise: jax.Array) -> jax.Array:
        return jnp.broadcast_to(self.squash(pi), noise.shape)


class Implicit(OneStepPolicy):
    """`z = f(s, noise)`: any law, such as one with several modes, but no density."""

    def inputs(self, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        obs = jnp.broadcast_to(obs, (*noise.shape[:-1], obs.shape[-1]))
        return (jnp.concatenate([obs, noise], axis=-1),)

    def at(self, params: Params, obs: jax.Array) -> tuple[Params, jax.Array]:
        return params, obs

    def sample(self, pi: tuple[Params, jax.Array], noise: jax.Array) -> jax.Array:
        params, obs = pi
        return self.squash(self.network.apply({'params': params}, *self.inputs(obs, noise)))


POLICIES: dict[str, type[OneStepPolicy]] = {
    'gaussian': Gaussian,
    'deterministic': Deterministic,
    'implicit': Implicit,
}
