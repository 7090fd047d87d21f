"""TD3+BC (Fujimoto & Gu, NeurIPS 2021, arXiv 2106.06860): TD3 with one term more.

A deterministic policy `pi` maximises Q as in TD3 (see `td3`), and its squared distance to the
data's action keeps it near the data. Q is divided by its mean magnitude, so that one weight suits
rewards of any scale. Observations are normalised by the data's mean and deviation.

Symbols: s `obs`, a `action`, `alpha` the paper's, which weighs Q: 0 gives a clone of the data.

The paper leaves these points open. They follow the released code (sfujim/TD3_BC, 8791ad7):
- Q's loss is the sum of both critics' errors, and pi maximises the first critic only;
- Q learns before pi, so pi's loss has the new Q; the targets follow the new networks;
- the distance averages over action dims too;
- 0.001 is added to the deviation of the observations;
- rewards are as the data have them.
The released code scales noise and its bound by the box, and measures the distance in its units. Its
tasks have boxes of ±1. Here the networks, the noise and the distance have actions in units of the
box.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dtql_jax.agents import base, td3
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.nn import losses
from dtql_jax.nn.layers import apply
from dtql_jax.types import Metrics, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(td3.Config):
    """The settings of TD3+BC. The defaults are the released ones."""

    alpha: float = setting(
        2.5, 'weight of the normalised Q beside the distance to the data; 0 gives a clone'
    )


class TD3BC(td3.TD3):
    """The agent. `train` is one update of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    clone: ClassVar[dict[str, float]] = {'alpha': 0.0}
    task_settings: ClassVar[Mapping[str, Any]] = {'normalize_obs': True}

    def train(self, state: State, batch: Transition, noise: jax.Array) -> tuple[State, Metrics]:
        """A step of Q; at every second update one of pi and of the targets."""
        lr, tau = state.hparams['lr'], state.hparams['tau']
        batch = batch._replace(action=batch.action / self.spec.max_action)
        state, m_q = self.descend(state, 'q', lr, self.q_loss, batch, noise)

        def learn(state: State) -> tuple[State, Metrics]:
            state, metrics = self.descend(state, 'pi', lr, self.policy_loss, batch)
            return self.track(self.track(state, 'q', tau), 'pi', tau), metrics

        state, m_pi = self.when(self.due(state), learn, state)
        return state.replace(step=state.step + 1), {**m_q, **m_pi}

    def q_loss(
        self, state: State, batch: Transition, noise: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """q: L = sum_k E (Q_k(s, a) - y)^2 with y = sg (r + discount mask min_k Q'_k(s', a')).

        Q' is the target critic, and the next action a' is the target policy's with clipped noise.
        """
        h = state.hparams
        action = self.noisy(state.target['pi'], batch.next_obs, noise, h)
        next_q = apply(self.q, state.target['q'], batch.next_obs, action).min(0)
        target = losses.td_target(batch.reward, batch.mask, next_q, h['discount'])
        q = apply(self.q, state.params['q'], batch.obs, batch.action)
        loss = losses.twin_td_loss(q, target)
        return loss, {'q/td_loss': loss, 'q/q': q.mean()}

    def policy_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """pi: L = E (pi(s) - a)^2 - alpha E Q_1(s, pi(s)) / sg E |Q_1|."""
        action = self.mode(state.params['pi'], batch.obs)
        q = apply(self.q, state.params['q'], batch.obs, action)[0]
        q_loss = -q.mean() / jax.lax.stop_gradient(jnp.abs(q).mean())
        clone = jnp.mean((action - batch.action) ** 2)
        loss = clone + state.hparams['alpha'] * q_loss
        metrics = {'loss': loss, 'q_loss': q_loss, 'clone_loss': clone, 'q': q.mean()}
        return loss, {f'pi/{k}': v for k, v in metrics.items()}
