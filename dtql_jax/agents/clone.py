"""The diffusion policy `mu` of DTQL (arXiv 2405.19690), for the agents that train one.

mu clones the data: a denoiser D of noisy actions, given the state. The denoising loss has two uses.
On the data's actions it trains mu; on another policy's actions, its gradient with respect to these
is DTQL's trust region.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.diffusion.karras import Network, Preconditioning
from dtql_jax.nn.denoisers import Denoiser
from dtql_jax.nn.layers import ACTIVATIONS
from dtql_jax.types import Metrics, Params, Transition


class CloneDraws(Protocol):
    """The random numbers of `clone_loss`, standard."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]


class DiffusionClone(base.Agent):
    """An agent with a network 'mu'.

    Its settings have `schedule`, `hidden`, `mu_layers`, `mu_activation` and `mu_layer_norm`.
    """

    @property
    def schedule(self) -> Preconditioning:
        return SCHEDULES[self.config.schedule]()

    @property
    def mu(self) -> Denoiser:
        c = self.config
        return Denoiser(
            self.spec.action_dim,
            c.hidden,
            layers=c.mu_layers,
            activation=ACTIVATIONS[c.mu_activation],
            layer_norm=c.mu_layer_norm,
        )

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'mu': (self.mu, (action, jnp.zeros(1), obs))}

    def clone_loss(
        self, state: State, batch: Transition, draws: CloneDraws
    ) -> tuple[jax.Array, Metrics]:
        """mu: the denoising loss on the data's actions."""
        params = state.params['mu']
        u, noise = draws.clone_u, draws.clone_noise
        loss = self.denoising_loss(params, batch.obs, batch.action, u, noise)
        return loss, {'mu/loss': loss}

    def denoising_loss(
        self, params: Params, obs: jax.Array, action: jax.Array, u: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """`E ((D(a + sigma noise, sigma | s) - a) / c_out(sigma))^2` on `action` `[B, A]`.

        D is the denoiser with these `params`; `u` `[B]` are the quantiles of sigma, `noise` is
        `[B, A]`.
        """
        schedule = self.schedule
        clip = self.spec.max_action if schedule.clip_in_loss else None
        return schedule.loss(self.network(params, obs), action, schedule.sigma(u), noise, clip)

    def network(self, params: Params, obs: jax.Array) -> Network:
        """A network of mu's architecture at `obs` `[B, O]`."""
        return lambda x, c: self.mu.apply({'params': params}, x, c, obs)
