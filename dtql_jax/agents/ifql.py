"""Implicit Flow Q-Learning: IDQL with a flow, a baseline of FQL's paper (arXiv 2502.02538).

A flow `v` clones the data: following it for ten steps turns noise into an action. IQL's critic is
learned beside it (see `iql_critic`). Acting samples 32 actions from the flow and takes the one with
the largest Q.

Symbols: s `obs`, a `action`, v the network 'flow'; V the network 'v' of the critic.

This follows the released code (seohongpark/fql, 719d044):
- all losses are minimised in one step, at the networks from before it; Q's target has V from before
  the step, and the target critic follows the critic from before the step;
- the critics' errors are summed, twice the scale of FQL's and ReBRAC's;
- the flow's loss averages over action dims;
- acting judges candidates by the critic that is trained, and not by its target;
- the data's actions are clipped to 1 - 1e-5 of the box.
The released code has boxes of ±1 only. Here the networks see actions in units of the box.
Left out: pixels and their encoders, and the validation losses.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.agents import base, flow, iql_critic
from dtql_jax.agents.base import State
from dtql_jax.agents.candidates import best_by_q, min_q
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.nn.critics import TwinQ, Value
from dtql_jax.nn.layers import XavierDense
from dtql_jax.types import Metrics, Params, Phase, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(flow.Config, iql_critic.Config):
    """The settings of IFQL. The defaults are the released ones."""

    eval_every: int = with_default(base.Config, 'eval_every', 100_000)
    expectile: float = with_default(iql_critic.Config, 'expectile', 0.9)
    critic_layers: int = with_default(iql_critic.Config, 'critic_layers', 4)
    critic_activation: str = with_default(iql_critic.Config, 'critic_activation', 'gelu')
    critic_layer_norm: bool = with_default(iql_critic.Config, 'critic_layer_norm', True)
    lr: float = setting(3e-4, 'learning rate of the flow')
    candidates: int = setting(
        32, 'number of sampled actions of which acting takes the one with the largest Q', least=1
    )


class Draws(NamedTuple):
    """All random numbers of one update: standard normal noise, and times in [0, 1)."""

    flow_noise: jax.Array  # [B, A]
    flow_t: jax.Array  # [B, 1]


class IFQL(flow.FlowClone, iql_critic.IQLCritic):
    """The agent. `train` is one update of the released code.

    The network 'flow' and its loss come from `FlowClone`, Q, V and their losses from `IQLCritic`.
    """

    config: Config
    config_class: ClassVar[type[base.Config]] = Config

    layer: ClassVar[type[nn.Module]] = XavierDense
    td_scale: ClassVar[float] = 1.0

    @property
    def q(self) -> TwinQ:
        return dataclasses.replace(super().q, norm_after=True)

    @property
    def v(self) -> Value:
        return dataclasses.replace(super().v, norm_after=True)

    def networks(self) -> dict[str, tuple]:
        critic = iql_critic.IQLCritic.networks(self)
        return {**critic, **flow.FlowClone.networks(self)}

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """One step of V, Q and the flow together, all at the networks from before it."""
        h = state.hparams
        batch = batch._replace(action=self.unit(batch.action))
        steps = {
            'v': (h['critic_lr'], lambda s, b, _: self.v_loss(s, b)),
            'q': (h['critic_lr'], lambda s, b, _: self.q_loss(s, b)),
            'flow': (h['lr'], self.clone_loss),
        }
        after, metrics = self.descend_together(state, steps, batch, draws)
        target = self.track(state, 'q', h['tau']).target  # of the critic from before the step
        return after.replace(target=target, step=state.step + 1), metrics

    # Acting, in units of the box.

    def acting(self, state: State) -> Params:
        return {'flow': state.params['flow'], 'q': state.params['q']}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of the flow at one `obs` `[O]` from `noise` `[N, A]`: `[N, A]`."""
        obs = jnp.broadcast_to(obs, (noise.shape[0], *obs.shape))
        return self.cloned(acting['flow'], obs, noise)

    def candidate_q(self, acting: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """The critic's minimum at one observation `[O]` for `action` `[N, A]`: `[N]`."""
        return min_q(self.q, acting['q'], obs, action)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The one of the samples with the largest min Q of the critic."""
        c = self.config
        noise = jax.random.normal(key, (c.candidates, self.spec.action_dim))
        action = self.candidates(acting, obs, noise)
        if c.candidates > 1:
            action = best_by_q(lambda a: self.candidate_q(acting, obs, a), action)[None]
        return self.spec.max_action * action[0]


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 2)
    b, a = batch.action.shape
    return Draws(
        flow_noise=jax.random.normal(keys[0], (b, a)), flow_t=jax.random.uniform(keys[1], (b, 1))
    )
