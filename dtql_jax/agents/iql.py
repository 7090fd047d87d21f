"""Implicit Q-Learning (Kostrikov, Nair & Levine, ICLR 2022, arXiv 2110.06169).

The critic learns from the data's own actions only (see `iql_critic`). A Gaussian policy `pi` then
repeats the data's actions, weighted by the exponential of their advantage. It acts by its mean.

Symbols: s `obs`, a `action`, `beta` the paper's inverse temperature (the released code's
`temperature`): 0 leaves a clone of the data, a large one climbs Q.

The paper leaves open, and from the released code (ikostrikov/implicit_q_learning, 09d7002) come:
- the order V, policy, Q, target, where the policy's weights see the new V and the target critic;
- the sum of both critics' errors, where a mean would do;
- a Gaussian whose mean is a tanh and whose noise is not squashed, with one log deviation for all
  states, clamped to [-5, 2], so that its likelihood has no Jacobian;
- weights bounded by 100, orthogonal layers of gain sqrt(2), and a cosine decay of the policy's
  learning rate only.
Left out: the policy's dropout on Adroit and Kitchen, the clipping of data actions to 1 - 1e-5,
which has no effect that matters on an unsquashed Gaussian, and acting with noise.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.agents import iql_critic
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.nn import losses
from dtql_jax.nn.layers import ACTIVATIONS, OrthogonalDense
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.nn.policies import TanhMeanPolicy
from dtql_jax.types import Metrics, Params, Phase, Transition

MAX_WEIGHT = 100.0  # of one transition in the policy's loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(iql_critic.Config):
    """Settings of IQL; defaults are those of its locomotion tasks."""

    lr: float = setting(3e-4, 'of pi, with a cosine decay over `steps`')
    beta: float = setting(3.0, 'inverse temperature of the weights')
    policy_layers: int = setting(2, 'hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class IQL(iql_critic.IQLCritic):
    """The agent; `train` is one update, line by line in the order of the released code."""

    config: Config
    config_class: ClassVar[type[iql_critic.Config]] = Config
    clone: ClassVar[dict[str, float]] = {'beta': 0.0}

    layer: ClassVar[type[nn.Module]] = OrthogonalDense
    td_scale: ClassVar[float] = 1.0

    @property
    def pi(self) -> TanhMeanPolicy:
        c = self.config
        return TanhMeanPolicy(
            self.spec.action_dim,
            c.hidden,
            c.policy_layers,
            ACTIVATIONS[c.policy_activation],
            c.policy_layer_norm,
        )

    def networks(self) -> dict[str, tuple]:
        obs, _ = self.examples
        return {**super().networks(), 'pi': (self.pi, (obs,))}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase('train', self.train, self.config.steps, self.config.batch_size),)

    def train(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        """V, policy, Q, target: policy and Q see the V that was just updated."""
        h = state.hparams
        lr = h['lr'] * cosine_decay(state.step, self.config.steps)
        state, m_v = self.descend(state, 'v', h['critic_lr'], self.v_loss, batch)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch)
        state, m_q = self.descend(state, 'q', h['critic_lr'], self.q_loss, batch)
        state = self.track(state, 'q', h['tau'])
        return state.replace(step=state.step + 1), {**m_v, **m_pi, **m_q}

    def policy_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """L = -E w log pi(a | s) with w = min(exp(beta (min_k Q'_k(s, a) - V(s))), 100).

        Q' is the target critic. The density is that of `a / max_action`, in the unit box.
        """
        q = self.q.apply({'params': state.target['q']}, batch.obs, batch.action).min(0)
        v = self.v.apply({'params': state.params['v']}, batch.obs)
        weight = jnp.minimum(jnp.exp(state.hparams['beta'] * (q - v)), MAX_WEIGHT)
        mean, log_std = self.pi.apply({'params': state.params['pi']}, batch.obs)
        log_std = jnp.broadcast_to(log_std, mean.shape)
        action = batch.action / self.spec.max_action
        log_prob = losses.gaussian_log_prob(action, mean, log_std)
        loss = -(weight * log_prob).mean()
        metrics = {'loss': loss, 'log_prob': log_prob.mean(), 'weight': weight.mean()}
        return loss, {f'pi/{k}': v for k, v in metrics.items()}

    def acting(self, state: State) -> Params:
        return {'pi': state.params['pi']}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The policy's mean, which `key` has no part in."""
        del key
        mean, _ = self.pi.apply({'params': acting['pi']}, obs)
        return self.spec.max_action * mean
