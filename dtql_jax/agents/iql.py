"""Implicit Q-Learning (Kostrikov, Nair & Levine, ICLR 2022, arXiv 2110.06169).

The critic learns from the data's actions only (see `iql_critic`). A Gaussian policy `pi` imitates
the data's actions with weights that grow exponentially with their advantage. It acts by its mean.

Symbols: s `obs`, a `action`, `beta` the paper's inverse temperature (`temperature` in the released
code): 0 gives a clone of the data, a large value maximises Q.

The paper leaves these points open. They follow the released code
(ikostrikov/implicit_q_learning, 09d7002):
- the order is V, policy, Q, target; the policy's weights use the new V and the target critic;
- Q's loss is the sum of both critics' errors, not their mean;
- pi is a Gaussian whose mean is a tanh and whose noise is not squashed, so its likelihood has no
  Jacobian; one log deviation serves all states and is clamped to [-5, 2];
- the weights are at most 100, the layers start orthogonal with gain sqrt(2), and only the policy's
  learning rate has a cosine decay.
Left out: the policy's dropout on Adroit and Kitchen, and the clipping of the data's actions to
1 - 1e-5, which hardly matters for a Gaussian without tanh.
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
from dtql_jax.nn.layers import ACTIVATIONS, OrthogonalDense, apply
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.nn.policies import TanhMeanPolicy
from dtql_jax.types import Metrics, Params, Phase, Transition

MAX_WEIGHT = 100.0  # the largest weight of a transition in the policy's loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(iql_critic.Config):
    """The settings of IQL. The defaults are those of its locomotion tasks."""

    lr: float = setting(3e-4, 'learning rate of pi; a cosine takes it to 0 over `steps`')
    beta: float = setting(
        3.0, "factor on the advantage in pi's exponential weights; 0 gives a clone of the data"
    )
    policy_layers: int = setting(2, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class IQL(iql_critic.IQLCritic):
    """The agent. `train` is one update, in the order of the released code."""

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
        """Updates V, the policy, Q and its target. The policy's and Q's steps use the updated V."""
        h = state.hparams
        lr = h['lr'] * cosine_decay(state.step, self.config.steps)
        state, m_v = self.descend(state, 'v', h['critic_lr'], self.v_loss, batch)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch)
        state, m_q = self.descend(state, 'q', h['critic_lr'], self.q_loss, batch)
        state = self.track(state, 'q', h['tau'])
        return state.replace(step=state.step + 1), {**m_v, **m_pi, **m_q}

    def policy_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """pi: L = -E w log pi(a | s) with w = min(exp(beta (min_k Q'_k(s, a) - V(s))), 100).

        Q' is the target critic. The density is that of `a / max_action`, in the unit box.
        """
        q = apply(self.q, state.target['q'], batch.obs, batch.action).min(0)
        v = apply(self.v, state.params['v'], batch.obs)
        weight = jnp.minimum(jnp.exp(state.hparams['beta'] * (q - v)), MAX_WEIGHT)
        mean, log_std = apply(self.pi, state.params['pi'], batch.obs)
        log_std = jnp.broadcast_to(log_std, mean.shape)
        action = batch.action / self.spec.max_action
        log_prob = losses.gaussian_log_prob(action, mean, log_std)
        loss = -(weight * log_prob).mean()
        metrics = {'loss': loss, 'log_prob': log_prob.mean(), 'weight': weight.mean()}
        return loss, {f'pi/{k}': v for k, v in metrics.items()}

    def acting(self, state: State) -> Params:
        return {'pi': state.params['pi']}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The mean of the policy. `key` is not used."""
        del key
        mean, _ = apply(self.pi, acting['pi'], obs)
        return self.spec.max_action * mean

    def explore(self, state: State, obs: jax.Array, key: jax.Array) -> jax.Array:
        """A sample of the policy, clipped to the box."""
        mean, log_std = apply(self.pi, state.params['pi'], obs)
        noise = jax.random.normal(key, mean.shape)
        return self.spec.max_action * jnp.clip(mean + jnp.exp(log_std) * noise, -1, 1)
