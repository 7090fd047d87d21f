"""The critic that IQL, IDQL, IFQL and SRPO share (Kostrikov et al., arXiv 2110.06169).

V regresses on an upper expectile of the target critic's Q at the data's actions, and Q on
`r + discount V(s')`. So no action outside the data is evaluated during training. The agents differ
in three points:

- The order of the steps. IQL and IDQL update V first, so Q's step uses the updated V. SRPO updates
  Q first and IFQL both together, so Q's step uses the V before the update. V's step is the same in
  all orders, because it depends on the target critic only.
- The layers: their initialisation (`layer`), and where IFQL has its LayerNorm.
- `td_scale`: IQL and IFQL add the squared errors of both critics; IDQL and SRPO take their mean.
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
from dtql_jax.nn.layers import ACTIVATIONS, Linear, apply
from dtql_jax.types import Metrics, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of the critic."""

    critic_lr: float = setting(3e-4, 'learning rate of Q and V')
    expectile: float = setting(0.7, 'expectile of Q that V regresses on', most=1)
    tau: float = setting(0.005, 'update rate of the target critic', most=1)
    hidden: int = setting(256, 'width of the hidden layers of all networks', least=1)
    critic_layers: int = setting(2, 'number of hidden layers of Q and V', least=1)
    critic_activation: str = setting('relu', 'activation of Q and V', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of Q and V')


class IQLCritic(base.Agent):
    """An agent with the networks 'q' and 'v'. Each of its updates tracks 'q' with `tau`."""

    config: Config
    targets: ClassVar[tuple[str, ...]] = ('q',)

    layer: ClassVar[type[nn.Module]] = Linear
    td_scale: ClassVar[float] = 0.5  # factor on the sum of both critics' errors

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
        """v: L = E |expectile - 1[q <= V]| (q - V(s))^2 with q = min_k Q'_k(s, a).

        Q' is the target critic.
        """
        q = apply(self.q, state.target['q'], batch.obs, batch.action).min(0)
        v = apply(self.v, state.params['v'], batch.obs)
        loss = losses.expectile_loss(q - v, state.hparams['expectile'])
        return loss, {'v/loss': loss, 'v/v': v.mean()}

    def q_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """q: L = td_scale sum_k E (Q_k(s, a) - y)^2 with y = sg (r + discount mask V(s')).

        V is that of `state`: the order of the steps decides whether it is updated already.
        """
        next_v = apply(self.v, state.params['v'], batch.next_obs)
        target = losses.td_target(batch.reward, batch.mask, next_v, state.hparams['discount'])
        q = apply(self.q, state.params['q'], batch.obs, batch.action)
        loss = self.td_scale * losses.twin_td_loss(q, target)
        return loss, {'q/td_loss': loss, 'q/q': q.mean()}
