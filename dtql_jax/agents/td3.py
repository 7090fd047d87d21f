"""What TD3+BC and ReBRAC take from TD3 (Fujimoto, van Hoof & Meger, ICML 2018, arXiv 1802.09477).

There are two critics, a deterministic policy `pi`, and a slowly moving copy of each. The next
action in the target of Q is that of pi's copy with clipped noise. pi and the copies move at every
second update only (`policy_every`), the second of each pair. Actions are in units of the box.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.nn.critics import TwinQ
from dtql_jax.nn.layers import ACTIVATIONS, MLP, Linear, apply
from dtql_jax.types import Metrics, Params, Phase, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of TD3."""

    lr: float = setting(3e-4, 'learning rate of both networks')
    policy_every: int = setting(2, 'number of updates per update of pi and the targets', least=1)
    noise: float = setting(0.2, 'deviation of the noise on the actions in the target of Q')
    noise_clip: float = setting(0.5, 'bound of that noise')
    tau: float = setting(0.005, 'update rate of the targets', most=1)
    hidden: int = setting(256, 'width of the hidden layers of both networks', least=1)
    critic_layers: int = setting(2, 'number of hidden layers of Q', least=1)
    critic_activation: str = setting('relu', 'activation of Q', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of Q')
    policy_layers: int = setting(2, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class TD3(base.Agent):
    """An agent with the networks 'q' and 'pi'. A subclass defines `train`."""

    config: Config
    targets: ClassVar[tuple[str, ...]] = ('q', 'pi')

    layer: ClassVar[type[nn.Module]] = Linear
    last_layer: ClassVar[type[nn.Module]] = Linear  # of pi
    norm_after: ClassVar[bool] = False  # see `MLP`

    @property
    def q(self) -> TwinQ:
        c = self.config
        hidden, activation = (c.hidden,) * c.critic_layers, ACTIVATIONS[c.critic_activation]
        return TwinQ(hidden, activation, c.critic_layer_norm, self.layer, self.norm_after)

    @property
    def pi(self) -> MLP:
        c = self.config
        hidden, activation = (c.hidden,) * c.policy_layers, ACTIVATIONS[c.policy_activation]
        layers = c.policy_layer_norm, self.layer, self.norm_after, self.last_layer
        return MLP(hidden, self.spec.action_dim, activation, *layers)

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'q': (self.q, (obs, action)), 'pi': (self.pi, (obs,))}

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    def train(self, state: State, batch: Transition, noise: jax.Array) -> tuple[State, Metrics]:
        """One update; `noise` `[B, A]` is standard normal."""
        raise NotImplementedError

    def due(self, state: State) -> jax.Array:
        """Whether the update `state.step` is one of those at which pi learns."""
        return (state.step + 1) % self.config.policy_every == 0

    # Actions, in units of the box.

    def mode(self, params: Params, obs: jax.Array) -> jax.Array:
        """pi(s): `[..., O] -> [..., A]`."""
        return jnp.tanh(apply(self.pi, params, obs))

    def noisy(
        self, params: Params, obs: jax.Array, noise: jax.Array, settings: dict[str, jax.Array]
    ) -> jax.Array:
        """pi(s) with clipped noise, clipped to the box."""
        bound = settings['noise_clip']
        noise = jnp.clip(settings['noise'] * noise, -bound, bound)
        return jnp.clip(self.mode(params, obs) + noise, -1, 1)

    def acting(self, state: State) -> Params:
        return {'pi': state.params['pi']}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """pi(s). `key` is not used."""
        del key
        return self.spec.max_action * self.mode(acting['pi'], obs)

    def explore(self, state: State, obs: jax.Array, key: jax.Array) -> jax.Array:
        """pi(s) with the noise of the target of Q."""
        noise = jax.random.normal(key, (self.spec.action_dim,))
        return self.spec.max_action * self.noisy(state.params['pi'], obs, noise, state.hparams)


def draw(state: State, batch: Transition) -> jax.Array:
    """Draws the noise `[B, A]` of the update `state.step` from the run's key and the step."""
    return jax.random.normal(jax.random.fold_in(state.key, state.step), batch.action.shape)
