"""The flow policy of FQL and IFQL (arXiv 2502.02538), and the base of the agents that train one.

The flow clones the data: following its velocity v(s, x, t) from noise at t = 0 to t = 1 gives an
action. The loss of flow matching on the data's actions trains it. Actions are in units of the box.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion.flow import Velocity, flow_loss, follow
from dtql_jax.nn.layers import ACTIVATIONS, MLP, XavierDense, apply
from dtql_jax.types import Metrics, Params, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of the flow."""

    hidden: int = setting(512, 'width of the hidden layers of all networks', least=1)
    flow_steps: int = setting(10, "number of Euler's steps along the flow", least=1)
    flow_layers: int = setting(4, 'number of hidden layers of the flow', least=1)
    flow_activation: str = setting('gelu', 'activation of the flow', choices=ACTIVATIONS)
    flow_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of the flow')


class FlowDraws(Protocol):
    """The random numbers of `clone_loss`: standard normal noise, and times in [0, 1)."""

    @property
    def flow_noise(self) -> jax.Array:
        """`[B, A]`."""

    @property
    def flow_t(self) -> jax.Array:
        """`[B, 1]`."""


class FlowClone(base.Agent):
    """An agent with the network 'flow'."""

    config: Config

    @property
    def flow(self) -> MLP:
        c = self.config
        hidden, activation = (c.hidden,) * c.flow_layers, ACTIVATIONS[c.flow_activation]
        out = self.spec.action_dim
        return MLP(hidden, out, activation, c.flow_layer_norm, XavierDense, norm_after=True)

    def networks(self) -> dict[str, tuple]:
        inputs = jnp.concatenate([*self.examples, jnp.zeros((1, 1))], axis=-1)
        return {'flow': (self.flow, (inputs,))}

    def clone_loss(
        self, state: State, batch: Transition, draws: FlowDraws
    ) -> tuple[jax.Array, Metrics]:
        """flow: L = E (v(s, x_t, t) - (a - x_0))^2 with x_t = (1 - t) x_0 + t a."""
        velocity = self.velocity(state.params['flow'], batch.obs)
        loss = flow_loss(velocity, batch.action, draws.flow_noise, draws.flow_t)
        return loss, {'flow/loss': loss}

    def velocity(self, params: Params, obs: jax.Array) -> Velocity:
        """v at the states `obs` `[B, O]`."""
        return lambda x, t: apply(self.flow, params, jnp.concatenate([obs, x, t], axis=-1))

    def cloned(self, params: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Actions of the flow, clipped to the box: `[B, O], [B, A] -> [B, A]`."""
        return follow(self.velocity(params, obs), noise, self.config.flow_steps, clip=1.0)
