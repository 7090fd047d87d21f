"""Flow Q-Learning (Park, Li & Levine, ICML 2025, arXiv 2502.02538).

A flow `v` clones the data: following it for ten steps turns noise into an action. A one-step policy
`pi` turns the same noise into an action by one network call. It maximises Q and is distilled from
the flow, which keeps it near the data. No gradient passes through the steps of the flow. `pi` acts.

Symbols: s `obs`, a `action`, z noise, v the network 'flow' (the paper's v_theta), pi(s, z) the
paper's mu_omega, `alpha` the weight of the distillation.

Where paper and released code (seohongpark/fql, 719d044) differ, this follows the code:
- all three losses are minimised in one step, at the networks from before it;
- the target critic follows the critic from before the step, so it lags by one;
- the losses of flow and distillation average over action dims, so `alpha` is `action_dim` times
  that of a sum;
- pi's actions are clipped to the box for Q, and the flow's at the end, but the distillation
  compares pi's actions as they are;
- `q_aggregate=min` concerns the target of Q only: pi maximises the mean of both critics;
- `normalise_q` came with the release; the paper's runs did not use it;
- the data's actions are clipped to 1 - 1e-5 of the box;
- evaluation draws z as training does.
The released code has boxes of ±1 only. Here the networks see actions in units of the box.
Left out: pixels and their encoders, and the validation losses.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.agents import base, flow
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.nn import losses
from dtql_jax.nn.critics import AGGREGATES, TwinQ
from dtql_jax.nn.layers import ACTIVATIONS, MLP, XavierDense, apply
from dtql_jax.types import Metrics, Params, Phase, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(flow.Config):
    """The settings of FQL. The defaults are the released ones."""

    eval_every: int = with_default(base.Config, 'eval_every', 100_000)
    lr: float = setting(3e-4, 'learning rate of all networks')
    alpha: float = setting(10.0, 'weight of the distillation that keeps pi near the flow')
    normalise_q: bool = setting(
        False, "divide Q in pi's loss by its mean magnitude, so that `alpha` suits any rewards"
    )
    q_aggregate: str = setting(
        'mean', 'how the target of Q joins the two target critics', choices=AGGREGATES
    )
    tau: float = setting(0.005, 'update rate of the target critic', most=1)
    critic_layers: int = setting(4, 'number of hidden layers of Q', least=1)
    critic_activation: str = setting('gelu', 'activation of Q', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(True, 'LayerNorm after each hidden layer of Q')
    policy_layers: int = setting(4, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('gelu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class Draws(NamedTuple):
    """All random numbers of one update: standard normal noise, and times in [0, 1)."""

    next_z: jax.Array  # [B, A]
    flow_noise: jax.Array  # [B, A]
    flow_t: jax.Array  # [B, 1]
    z: jax.Array  # [B, A]


class FQL(flow.FlowClone):
    """The agent. `train` is one update of the released code.

    The network 'flow' and its loss come from `FlowClone`.
    """

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ('q',)

    @property
    def q(self) -> TwinQ:
        c = self.config
        hidden, activation = (c.hidden,) * c.critic_layers, ACTIVATIONS[c.critic_activation]
        return TwinQ(hidden, activation, c.critic_layer_norm, XavierDense, norm_after=True)

    @property
    def pi(self) -> MLP:
        c = self.config
        hidden, activation = (c.hidden,) * c.policy_layers, ACTIVATIONS[c.policy_activation]
        out = self.spec.action_dim
        return MLP(hidden, out, activation, c.policy_layer_norm, XavierDense, norm_after=True)

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        inputs = jnp.concatenate([obs, action], axis=-1)
        return {
            'q': (self.q, (obs, action)), **super().networks(), 'pi': (self.pi, (inputs,)),
        }  # fmt: skip

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    # One update.

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """One step of Q, the flow and pi together, all at the networks from before it."""
        lr, tau = state.hparams['lr'], state.hparams['tau']
        batch = batch._replace(action=self.unit(batch.action))
        steps = {
            'q': (lr, self.q_loss), 'flow': (lr, self.clone_loss), 'pi': (lr, self.policy_loss),
        }  # fmt: skip
        after, metrics = self.descend_together(state, steps, batch, draws)
        target = self.track(state, 'q', tau).target  # it follows the critic from before the step
        return after.replace(target=target, step=state.step + 1), metrics

    def q_loss(self, state: State, batch: Transition, draws: Draws) -> tuple[jax.Array, Metrics]:
        """q: L = E mean_k (Q_k(s, a) - y)^2, y = sg (r + discount mask mean_k Q'_k(s', pi(s', z))).

        Q' is the target critic. With `q_aggregate=min` the target has the minimum of both.
        """
        action = jnp.clip(self.one_step(state.params['pi'], batch.next_obs, draws.next_z), -1, 1)
        next_q = apply(self.q, state.target['q'], batch.next_obs, action)
        next_q = AGGREGATES[self.config.q_aggregate](next_q)
        target = losses.td_target(batch.reward, batch.mask, next_q, state.hparams['discount'])
        q = apply(self.q, state.params['q'], batch.obs, batch.action)
        loss = 0.5 * losses.twin_td_loss(q, target)
        return loss, {'q/td_loss': loss, 'q/q': q.mean()}

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: L = alpha E (pi(s, z) - flow(s, z))^2 - E mean_k Q_k(s, pi(s, z))."""
        action = self.one_step(state.params['pi'], batch.obs, draws.z)
        cloned = self.cloned(state.params['flow'], batch.obs, draws.z)
        distill = jnp.mean((action - cloned) ** 2)
        q = apply(self.q, state.params['q'], batch.obs, jnp.clip(action, -1, 1)).mean(0)
        q_loss = -q.mean()
        if self.config.normalise_q:
            q_loss /= jax.lax.stop_gradient(jnp.abs(q).mean())
        loss = state.hparams['alpha'] * distill + q_loss
        metrics = {'loss': loss, 'distill_loss': distill, 'q_loss': q_loss, 'q': q.mean()}
        return loss, {f'pi/{k}': v for k, v in metrics.items()}

    # Actions, in units of the box.

    def one_step(self, params: Params, obs: jax.Array, z: jax.Array) -> jax.Array:
        """pi(s, z), which may leave the box: `[..., O], [..., A] -> [..., A]`."""
        return apply(self.pi, params, jnp.concatenate([obs, z], axis=-1))

    def acting(self, state: State) -> Params:
        return {'pi': state.params['pi']}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """pi(s, z) for new noise z, clipped to the box."""
        z = jax.random.normal(key, (self.spec.action_dim,))
        return self.spec.max_action * jnp.clip(self.one_step(acting['pi'], obs, z), -1, 1)


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
    b, a = batch.action.shape
    return Draws(
        next_z=jax.random.normal(keys[0], (b, a)),
        flow_noise=jax.random.normal(keys[1], (b, a)),
        flow_t=jax.random.uniform(keys[2], (b, 1)),
        z=jax.random.normal(keys[3], (b, a)),
    )
