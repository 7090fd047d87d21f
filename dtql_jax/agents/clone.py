"""The diffusion policy `mu` of DTQL (arXiv 2405.19690), and the base of the agents that train one.

mu clones the data: it is a denoiser D of noisy actions, given the state. The denoising loss on the
data's actions trains mu. The same loss on another policy's actions is DTQL's trust region: its
gradient with respect to those actions pulls them towards the data.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.diffusion.karras import Network, Preconditioning
from dtql_jax.nn.denoisers import Denoiser
from dtql_jax.nn.layers import ACTIVATIONS, apply
from dtql_jax.types import Metrics, Params, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of mu."""

    schedule: str = setting('edm', 'noise schedule of mu', choices=SCHEDULES)
    clip_denoised: bool = setting(
        True, 'clip the denoised action in losses to the box; with the schedule edm only'
    )
    hidden: int = setting(256, 'width of the hidden layers of all networks', least=1)
    mu_layers: int = setting(3, 'number of hidden layers of mu with an activation', least=1)
    mu_activation: str = setting('mish', 'activation of mu', choices=ACTIVATIONS)
    mu_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of mu')


class CloneDraws(Protocol):
    """The random numbers of `clone_loss`: quantiles in [0, 1) and standard normal noise."""

    @property
    def clone_u(self) -> jax.Array:
        """`[B]`."""

    @property
    def clone_noise(self) -> jax.Array:
        """`[B, A]`."""


class DiffusionClone(base.Agent):
    """An agent with the network 'mu'."""

    config: Config

    @property
    def schedule(self) -> Preconditioning:
        return SCHEDULES[self.config.schedule]()

    @property
    def loss_clip(self) -> float | None:
        """The bound that losses clip denoised actions to; None if they do not clip."""
        clips = self.config.clip_denoised and self.schedule.clip_in_loss
        return self.spec.max_action if clips else None

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

        D is the denoiser with the parameters `params`, `u` `[B]` are the quantiles of sigma, and
        `noise` is `[B, A]`.
        """
        sigma = self.schedule.sigma(u)
        return self.schedule.loss(self.network(params, obs), action, sigma, noise, self.loss_clip)

    def trust_region(
        self, params: Params, obs: jax.Array, action: jax.Array, u: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """The denoising loss of each `action` `[B, A]` at `obs` `[B, O]`: `[B]`.

        Each is the mean over the same N draws, `u` `[N]` and `noise` `[N, A]`.
        """

        def loss(obs: jax.Array, action: jax.Array) -> jax.Array:
            obs, action = (jnp.broadcast_to(x, (len(u), *x.shape)) for x in (obs, action))
            return self.denoising_loss(params, obs, action, u, noise)

        return jax.vmap(loss)(obs, action)

    def network(self, params: Params, obs: jax.Array) -> Network:
        """The network of mu with the parameters `params` at `obs` `[B, O]`."""
        return lambda x, c: apply(self.mu, params, x, c, obs)
