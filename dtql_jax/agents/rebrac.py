"""ReBRAC (Tarasov et al., NeurIPS 2023, arXiv 2305.09836): TD3+BC with two penalties.

A deterministic policy `pi` maximises Q, and a penalty on its distance from the data's action keeps
it near the data. A second penalty in the target of Q makes states cheap whose next action is far
from the data's.

Symbols: s `obs`, a `action`, a~ the next action of the data, `alpha_actor` and `alpha_critic` the
weights of the penalties (the paper's beta_1 and beta_2), pi' and Q' the slowly moving copies.

There are two released codes. This follows the one of FQL's authors (seohongpark/fql, 719d044),
which ran ReBRAC on OGBench:
- all losses are minimised in one step, at the networks from before it; targets follow the networks
  from before the step;
- the critics' errors are averaged;
- pi and the targets move at every second step only (`policy_every`), the second of each pair. One
  Adam drives both networks, so at the other steps pi moves on by its momentum;
- a~ is the action of the next row of the data, which after the last row of an episode is the first
  action of another one;
- LayerNorm follows the activation, which is GELU; there are four layers of 512; initialisation is
  Glorot's, and a tenth of it in the last layer of pi;
- the data's actions are clipped to 1 - 1e-5 of the box.
The original code (tinkoff-ai/ReBRAC, 694385b), whose D4RL numbers the paper prints, differs in all
of these points and has batches of 1024 and a learning rate of 1e-3 for locomotion. The released
defaults of both weights are 0 here and 1 there; ours are those of the released command for
humanoidmaze. The released code has boxes of ±1 only. Here the networks, the noise and the penalties
have actions in units of the box.
Left out: pixels and their encoders.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.agents import base, td3
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.nn import losses
from dtql_jax.nn.layers import SmallDense, XavierDense, apply
from dtql_jax.types import Metrics, Transition

NEXT_ACTION = 'next_row_action'  # the column of a~


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(td3.Config):
    """The settings of ReBRAC."""

    eval_every: int = with_default(base.Config, 'eval_every', 100_000)
    hidden: int = with_default(td3.Config, 'hidden', 512)
    critic_layers: int = with_default(td3.Config, 'critic_layers', 4)
    critic_activation: str = with_default(td3.Config, 'critic_activation', 'gelu')
    critic_layer_norm: bool = with_default(td3.Config, 'critic_layer_norm', True)
    policy_layers: int = with_default(td3.Config, 'policy_layers', 4)
    policy_activation: str = with_default(td3.Config, 'policy_activation', 'gelu')
    alpha_actor: float = setting(0.01, "weight of the distance to the data in pi's loss")
    alpha_critic: float = setting(0.01, 'weight of the distance to the data in the target of Q')


class ReBRAC(td3.TD3):
    """The agent. `train` is one update of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    columns: ClassVar[tuple[str, ...]] = (NEXT_ACTION,)

    layer: ClassVar[type[nn.Module]] = XavierDense
    last_layer: ClassVar[type[nn.Module]] = SmallDense
    norm_after: ClassVar[bool] = True

    def train(self, state: State, batch: Transition, noise: jax.Array) -> tuple[State, Metrics]:
        """One step of Q and pi together; `noise` `[B, A]` is standard normal."""
        lr = state.hparams['lr']
        batch = batch._replace(
            action=self.unit(batch.action),
            extra={NEXT_ACTION: self.unit(batch.extra[NEXT_ACTION])},
        )
        steps = {'q': (lr, self.q_loss), 'pi': (lr, self.policy_loss)}
        after, metrics = self.descend_together(state, steps, batch, noise)
        # The targets follow the networks from before the step.
        tau = jnp.where(self.due(state), state.hparams['tau'], 0.0)
        followed = self.track(self.track(state, 'q', tau), 'pi', tau)
        return after.replace(target=followed.target, step=state.step + 1), metrics

    def q_loss(
        self, state: State, batch: Transition, noise: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """q: L = E mean_k (Q_k(s, a) - y)^2, y = sg (r + discount mask (min_k Q'_k(s', a') - p)).

        The next action a' is pi'(s') with noise, and p = alpha_critic |a' - a~|^2 its penalty.
        """
        h = state.hparams
        action = self.noisy(state.target['pi'], batch.next_obs, noise, h)
        penalty = h['alpha_critic'] * ((action - batch.extra[NEXT_ACTION]) ** 2).sum(-1)
        next_q = apply(self.q, state.target['q'], batch.next_obs, action).min(0) - penalty
        target = losses.td_target(batch.reward, batch.mask, next_q, h['discount'])
        q = apply(self.q, state.params['q'], batch.obs, batch.action)
        loss = 0.5 * losses.twin_td_loss(q, target)
        return loss, {'q/td_loss': loss, 'q/q': q.mean(), 'q/penalty': penalty.mean()}

    def policy_loss(
        self, state: State, batch: Transition, noise: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """pi: L = alpha_actor E |pi(s) - a|^2 - E Q(s, pi(s)) / sg E |Q|, with Q = min_k Q_k.

        Where pi does not learn, L is 0: its gradient lets Adam's momentum move pi on.
        """
        del noise

        def learn(_: jax.Array) -> tuple[jax.Array, Metrics]:
            action = self.mode(state.params['pi'], batch.obs)
            q = apply(self.q, state.params['q'], batch.obs, action).min(0)
            q_loss = -q.mean() / jax.lax.stop_gradient(jnp.abs(q).mean())
            clone = ((action - batch.action) ** 2).sum(-1).mean()
            loss = state.hparams['alpha_actor'] * clone + q_loss
            metrics = {'loss': loss, 'q_loss': q_loss, 'clone_loss': clone, 'q': q.mean()}
            return loss, {f'pi/{k}': v for k, v in metrics.items()}

        return self.when(self.due(state), learn, jnp.zeros(()))
