"""Implicit Diffusion Q-Learning (Hansen-Estruch et al., arXiv 2304.10573).

A diffusion policy `mu` clones the data without using rewards. IQL's critic is learned beside it
(see `iql_critic`). Acting samples many actions from mu and takes the one with the largest Q.

Symbols: s `obs`, a `action`, eps the noise network mu, T `diffusion_steps`.

This follows the simple learner (`ddpm_iql_simple`) of the released code. The paper's runs differ:
they used larger batches, fewer updates and another network, and tuned the number of candidates. As
in the simple learner:
- all three networks train on the same batch of 512;
- acting takes the best of 64 candidates; an older learner draws one with the weights `expectile`
  where Q is above V and `1 - expectile` elsewhere;
- candidates come from an average of mu that moves by 0.001 at every update;
- mu's learning rate decays by a cosine over all 3,000,000 updates, the critic's rate is constant;
- V has a LayerNorm on its input, Q has none. The LayerNorm removes the mean and the scale of an
  observation, which is most of the information where observations are short: `value_norm=false`
  removes it;
- the data's actions are clipped to 1 - 1e-5 of the box in all losses.
Left out: the 5 % of the data for validation, the temperature of the sampler's noise (1 in the
released runs), and the one update after 3,000,000.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dtql_jax.agents import base, iql_critic
from dtql_jax.agents.base import EDGE, State
from dtql_jax.agents.candidates import best_by_q, min_q
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.diffusion.ddpm import DDPM
from dtql_jax.nn.critics import Value
from dtql_jax.nn.denoisers import FourierFeatures, ResidualDenoiser, dropout_factors
from dtql_jax.nn.layers import ACTIVATIONS, FLAX_EPSILON, XavierDense, apply
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition

TIME_DIM = 128  # number of Fourier features of t
TIME_DEVIATION = 0.2  # deviation of their initial frequencies
WEIGHT_DECAY = 1e-4  # weight decay of mu: optax's default


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(iql_critic.Config):
    """The settings of IDQL. The defaults are the released ones of its locomotion tasks."""

    steps: int = with_default(base.Config, 'steps', 3_000_000)
    batch_size: int = with_default(base.Config, 'batch_size', 512)
    eval_every: int = with_default(base.Config, 'eval_every', 250_000)
    lr: float = setting(3e-4, 'learning rate of mu; a cosine takes it to 0 over `steps`')
    dropout: float = setting(0.1, 'dropout rate in the blocks of mu', below=1)
    ema_tau: float = setting(0.001, 'update rate of the averaged mu', most=1)
    mu_blocks: int = setting(3, 'number of residual blocks of mu', least=1)
    mu_activation: str = setting('silu', 'activation of mu', choices=ACTIVATIONS)
    value_norm: bool = setting(True, 'LayerNorm on the observations that V receives')
    diffusion_steps: int = setting(5, 'number of steps of the diffusion chain', least=1)
    candidates: int = setting(
        64, 'number of sampled actions of which acting takes the one with the largest Q', least=1
    )


class Draws(NamedTuple):
    """All random numbers of one update; `noise` is standard normal."""

    t: jax.Array  # [B], integers below T
    noise: jax.Array  # [B, A]
    dropout_u: jax.Array  # [blocks, B, hidden], in [0, 1)


class IDQL(iql_critic.IQLCritic):
    """The agent. `train` is one update, in the order of the released code."""

    config: Config
    config_class: ClassVar[type[iql_critic.Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ('q', 'mu')

    layer: ClassVar[type[nn.Module]] = XavierDense

    @property
    def schedule(self) -> DDPM:
        return DDPM(self.config.diffusion_steps)

    @property
    def v(self) -> Value:
        return dataclasses.replace(
            super().v, input_norm=self.config.value_norm, input_norm_epsilon=FLAX_EPSILON
        )

    @property
    def mu(self) -> ResidualDenoiser:
        return ResidualDenoiser(
            self.spec.action_dim,
            FourierFeatures(TIME_DIM, TIME_DEVIATION),
            ACTIVATIONS[self.config.mu_activation],
            self.config.hidden,
            self.config.mu_blocks,
            layer=self.layer,
            block_layer=nn.Dense,
            epsilon=FLAX_EPSILON,
        )

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {**super().networks(), 'mu': (self.mu, (action, jnp.zeros(1), obs))}

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """AdamW for mu, Adam for the critic."""
        if name != 'mu':
            return super().optimiser(name)
        return optax.chain(super().optimiser(name), optax.add_decayed_weights(WEIGHT_DECAY))

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (
            Phase('train', lambda s, b: self.train(s, b, draw(s, b, c)), c.steps, c.batch_size),
        )

    # One update.

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates mu and its average, V, Q and its target. Q's step uses the updated V."""
        h, edge = state.hparams, EDGE * self.spec.max_action
        batch = batch._replace(action=jnp.clip(batch.action, -edge, edge))
        lr = h['lr'] * cosine_decay(state.step, self.config.steps)
        state, m_mu = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        state = self.track(state, 'mu', h['ema_tau'])
        state, m_v = self.descend(state, 'v', h['critic_lr'], self.v_loss, batch)
        state, m_q = self.descend(state, 'q', h['critic_lr'], self.q_loss, batch)
        state = self.track(state, 'q', h['tau'])
        return state.replace(step=state.step + 1), {**m_mu, **m_v, **m_q}

    def clone_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """mu: L = E |eps(a_t, t, s) - noise|^2, summed over action dims, with dropout."""
        noisy = self.schedule.add_noise(batch.action, draws.t, draws.noise)
        dropout = dropout_factors(draws.dropout_u, state.hparams['dropout'])
        predicted = apply(self.mu, state.params['mu'], noisy, draws.t, batch.obs, dropout)
        loss = ((predicted - draws.noise) ** 2).sum(-1).mean()
        return loss, {'mu/loss': loss}

    # Acting.

    def acting(self, state: State) -> Params:
        return {'mu': state.target['mu'], 'q': state.target['q']}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of the averaged mu at one `obs` `[O]` from `noise` `[N, T + 1, A]`: `[N, A]`."""
        obs = jnp.broadcast_to(obs, (noise.shape[0], *obs.shape))
        noise = noise.swapaxes(0, 1)
        return self.schedule.sample_ddpm(
            lambda x, t: apply(self.mu, acting['mu'], x, t, obs),
            noise[0],
            noise[1:],
            clip=self.spec.max_action,
        )

    def candidate_q(self, acting: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """The target critic's minimum at one observation `[O]` for `action` `[N, A]`: `[N]`."""
        return min_q(self.q, acting['q'], obs, action)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The one of the samples with the largest min Q of the target critic."""
        c = self.config
        shape = (c.candidates, c.diffusion_steps + 1, self.spec.action_dim)
        action = self.candidates(acting, obs, jax.random.normal(key, shape))
        if c.candidates == 1:
            return action[0]
        return best_by_q(lambda a: self.candidate_q(acting, obs, a), action)


def draw(state: State, batch: Transition, config: Config) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
    b, _ = batch.action.shape
    return Draws(
        t=jax.random.randint(keys[0], (b,), 0, config.diffusion_steps),
        noise=jax.random.normal(keys[1], batch.action.shape),
        dropout_u=jax.random.uniform(keys[2], (config.mu_blocks, b, config.hidden)),
    )
