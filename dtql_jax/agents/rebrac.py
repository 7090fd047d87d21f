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
Left out: pixels and their encoders, and acting with noise.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.nn import losses
from dtql_jax.nn.critics import TwinQ
from dtql_jax.nn.layers import ACTIVATIONS, MLP, SmallDense, XavierDense, apply
from dtql_jax.types import Metrics, Params, Phase, Transition

NEXT_ACTION = 'next_row_action'  # the column of a~


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of ReBRAC."""

    eval_every: int = with_default(base.Config, 'eval_every', 100_000)
    lr: float = setting(3e-4, 'learning rate of both networks')
    alpha_actor: float = setting(0.01, "weight of the distance to the data in pi's loss")
    alpha_critic: float = setting(0.01, 'weight of the distance to the data in the target of Q')
    policy_every: int = setting(2, 'number of updates per update of pi and the targets', least=1)
    noise: float = setting(0.2, 'deviation of the noise on the actions in the target of Q')
    noise_clip: float = setting(0.5, 'bound of that noise')
    tau: float = setting(0.005, 'update rate of the targets', most=1)
    hidden: int = setting(512, 'width of the hidden layers of both networks', least=1)
    critic_layers: int = setting(4, 'number of hidden layers of Q', least=1)
    critic_activation: str = setting('gelu', 'activation of Q', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(True, 'LayerNorm after each hidden layer of Q')
    policy_layers: int = setting(4, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('gelu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class ReBRAC(base.Agent):
    """The agent. `train` is one update of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ('q', 'pi')
    columns: ClassVar[tuple[str, ...]] = (NEXT_ACTION,)

    @property
    def q(self) -> TwinQ:
        c = self.config
        hidden, activation = (c.hidden,) * c.critic_layers, ACTIVATIONS[c.critic_activation]
        return TwinQ(hidden, activation, c.critic_layer_norm, XavierDense, norm_after=True)

    @property
    def pi(self) -> MLP:
        c = self.config
        return MLP(
            (c.hidden,) * c.policy_layers,
            self.spec.action_dim,
            ACTIVATIONS[c.policy_activation],
            c.policy_layer_norm,
            XavierDense,
            norm_after=True,
            last=SmallDense,
        )

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'q': (self.q, (obs, action)), 'pi': (self.pi, (obs,))}

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    # One update.

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

    def due(self, state: State) -> jax.Array:
        """Whether the update `state.step` is one of those at which pi learns."""
        return (state.step + 1) % self.config.policy_every == 0

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


def draw(state: State, batch: Transition) -> jax.Array:
    """Draws the noise `[B, A]` of the update `state.step` from the run's key and the step."""
    return jax.random.normal(jax.random.fold_in(state.key, state.step), batch.action.shape)
