"""The critic that IQL, IDQL and SRPO share (Kostrikov et al., arXiv 2110.06169): an agent's base.

V regresses on an upper expectile of the target critic's Q over the data's own actions, and Q on
`r + discount V(s')`. So no action outside the data is ever judged while learning. What differs
between the three is the order of the two steps, which the agent's update shows, and two settings.

- IQL and IDQL: V first. Q's target then sees the V that was just updated.
- SRPO: Q first, so that its target sees the V before the update. V's own step is the same either
  way, since it regresses on the target critic, which neither of the two steps moves.
- `layer`: the initialisation of the linear layers.
- `td_scale`: IQL adds the two critics' squared errors; IDQL and SRPO take their mean.

Networks: 'q', with a target, and 'v'. Left to the agent: `self.track(state, 'q', tau)` at the end.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.nn import losses
from dtql_jax.nn.critics import TwinQ, Value
from dtql_jax.nn.layers import ACTIVATIONS, Linear
from dtql_jax.types import Metrics, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings of the critic."""

    critic_lr: float = setting(3e-4, 'of q and v')
    expectile: float = setting(0.7, most=1)
    tau: float = setting(0.005, 'rate of the target critic', most=1)
    hidden: int = setting(256, 'width of every hidden layer', least=1)
    critic_layers: int = setting(2, 'hidden layers of Q and V', least=1)
    critic_activation: str = setting('relu', 'of Q and V', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of Q and V')


class IQLCritic(base.Agent):
    """The networks 'q' and 'v' and their losses."""

    config: Config
    targets: ClassVar[tuple[str, ...]] = ('q',)

    layer: ClassVar[type[nn.Module]] = Linear
    td_scale: ClassVar[float] = 0.5  # on the sum of both critics' errors

    @property
    def q(self) -> TwinQ:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return TwinQ((c.hidden,) * c.critic_layers, activation, c.critic_layer_norm, self.layer)

    @property
    def v(self) -> Value:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return Value((c.hidden,) * c.critic_layers, activation, self.layer, c.critic_layer_norm)

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'q': (self.q, (obs, action)), 'v': (self.v, (obs,))}

    def v_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """L = E |expectile - 1[q <= V]| (q - V(s))^2 with q = min_k Q'_k(s, a), Q' the target."""
        q = self.q.apply({'params': state.target['q']}, batch.obs, batch.action).min(0)
        v = self.v.apply({'params': state.params['v']}, batch.obs)
        loss = losses.expectile_loss(q - v, state.hparams['expectile'])
        return loss, {'v/loss': loss, 'v/v': v.mean()}

    def q_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """L = td_scale sum_k E (Q_k(s, a) - y)^2 with y = sg (r + discount mask V(s')).

        V is as `state` has it: the order of the steps decides whether it was just updated.
        """
        next_v = self.v.apply({'params': state.params['v']}, batch.next_obs)
        target = losses.td_target(batch.reward, batch.mask, next_v, state.hparams['discount'])
        q = self.q.apply({'params': state.params['q']}, batch.obs, batch.action)
        loss = self.td_scale * losses.twin_td_loss(q, target)
        return loss, {'q/td_loss': loss, 'q/q': q.mean()}
