"""DQL-KL: the distillation baseline in the DTQL paper (NeurIPS 2024, arXiv 2405.19690).

As in DTQL, a one-step policy `pi` maximises Q near a diffusion policy `mu` that clones the data.
Here pi is pulled towards mu by the gradient of a KL divergence (distribution matching distillation,
arXiv 2311.18828). This gradient is the difference of two denoisers at pi's actions: mu's, and that
of a third network `fake`, which is trained on pi's actions. DTQL's advantage is that it needs no
third network.

Symbols: those of `dtql`; D_mu and D_fake the two denoisers, `generation_sigma` the noise level that
pi starts from, `alpha` the weight of the KL loss, `eta` the weight of Q (1 in the released code; 0
gives a clone).

As in the released code:
- pi is a raw network of mu's architecture, `F(sigma_g xi, sigma_g | s)`: its time input is sigma_g,
  not ln(sigma_g) / 4, and neither EDM's scalings nor a tanh follow;
- pi and fake start from mu's weights at the end of the pre-training;
- the KL gradient is divided by the mean |a - D_mu|, which has no lower bound;
- actions are ranked by Q before they are clipped. We clip the chosen one to the box; the released
  code leaves that to the environment.
Left out: everything that `dtql` leaves out. There is no likelihood term, hence no `gamma`.
"""

import dataclasses
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.agents.dtql import CloneAndCritic, SharedConfig
from dtql_jax.agents.settings import setting
from dtql_jax.nn.denoisers import Denoiser
from dtql_jax.nn.layers import apply
from dtql_jax.types import Metrics, Params, Phase, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SharedConfig):
    """The settings of DQL-KL. The defaults are the released ones."""

    schedule: str = setting('edm', 'noise schedule of mu and fake', choices=('edm',))
    generation_sigma: float = setting(2.5, 'noise level that pi generates actions from')


class Draws(NamedTuple):
    """All random numbers of one update: quantiles in [0, 1) and standard normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]
    pi_noise: jax.Array  # [B, A]
    kl_u: jax.Array  # [B]
    kl_noise: jax.Array  # [B, A]
    fake_u: jax.Array  # [B]
    fake_noise: jax.Array  # [B, A]


class FakeDraws(Protocol):
    """The random numbers of `fake_loss`: quantiles in [0, 1) and standard normal noise."""

    @property
    def fake_u(self) -> jax.Array:
        """`[B]`."""

    @property
    def fake_noise(self) -> jax.Array:
        """`[B, A]`."""


class Distilled(DiffusionClone):
    """The KL loss of an agent with mu: it needs the network `fake`, a denoiser of pi's actions."""

    def networks(self) -> dict[str, tuple]:
        networks = super().networks()
        return {**networks, 'fake': networks['mu']}

    def kl_loss(
        self, state: State, obs: jax.Array, action: jax.Array, u: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """`L_KL = E (a - sg(a - g))^2 / 2` of pi's actions a `[B, A]`, so `dL_KL / da = g / (B A)`.

        `g = (D_fake - D_mu) / mean |a - D_mu|`, with both denoisers at one noisy copy of a and the
        mean over dims. `u` `[B]` are the quantiles of its noise levels, and `noise` is `[B, A]`.
        """
        sigma = self.schedule.sigma(u)
        a = jax.lax.stop_gradient(action)
        noisy = a + sigma[:, None] * noise
        real, fake = (
            self.schedule.denoise(
                self.network(state.params[name], obs), noisy, sigma, self.loss_clip
            )
            for name in ('mu', 'fake')
        )
        g = (fake - real) / jnp.mean(jnp.abs(a - real), axis=-1, keepdims=True)
        return 0.5 * jnp.mean((action - (a - g)) ** 2)

    def fake_loss(
        self, state: State, batch: Transition, draws: FakeDraws, action: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """fake: the denoising loss on pi's actions `[B, A]`."""
        params, u, noise = state.params['fake'], draws.fake_u, draws.fake_noise
        loss = self.denoising_loss(params, batch.obs, action, u, noise)
        return loss, {'fake/loss': loss}


class DQLKL(Distilled, CloneAndCritic):
    """The agent. It differs from DTQL in pi, in the loss of pi, and by the network `fake`."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config

    @property
    def pi(self) -> Denoiser:
        return self.mu

    def networks(self) -> dict[str, tuple]:
        networks = super().networks()
        fake = networks.pop('fake')  # the order decides which network gets which random numbers
        return {**networks, 'pi': fake, 'fake': fake}

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (
            Phase(
                'pretrain',
                lambda s, b: self.pretrain(s, b, draw(s, b)),
                c.pretrain_steps,
                c.batch_size,
                evaluate=False,
            ),
            Phase(
                'train',
                lambda s, b: self.train(s, b, draw(s, b)),
                c.steps,
                c.batch_size,
                enter=self.enter,
            ),
        )

    def enter(self, state: State) -> State:
        """Sets pi and fake to two copies of the pre-trained mu."""
        copies = {name: jax.tree.map(jnp.copy, state.params['mu']) for name in ('pi', 'fake')}
        return state.replace(params={**state.params, **copies})

    # One update.

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates the critic, mu, pi, fake, the target critic.

        Fake trains on the actions that pi generated before its step.
        """
        lr, critic_lr = (state.hparams[k] * self.decay(state) for k in ('lr', 'critic_lr'))
        sigma_g = state.hparams['generation_sigma']
        action = self.generate(state.params['pi'], batch.obs, draws.pi_noise, sigma_g)
        state, m_q = self.descend(state, 'critic', critic_lr, self.critic_loss, batch)
        state, m_mu = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)
        state, m_fake = self.descend(state, 'fake', lr, self.fake_loss, batch, draws, action)
        state = self.track(state, 'critic', state.hparams['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_mu, **m_pi, **m_fake}

    # The losses.

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: L = alpha L_KL(a_pi) - eta E min_k Q_k(s, a_pi)."""
        h = state.hparams
        action = self.generate(state.params['pi'], batch.obs, draws.pi_noise, h['generation_sigma'])
        kl = self.kl_loss(state, batch.obs, action, draws.kl_u, draws.kl_noise)
        q = apply(self.q, state.params['critic']['q'], batch.obs, action).min(0).mean()
        loss = h['alpha'] * kl - h['eta'] * q
        return loss, {'pi/loss': loss, 'pi/kl_loss': kl, 'pi/q': q}

    def generate(
        self, params: Params, obs: jax.Array, noise: jax.Array, sigma_g: jax.Array
    ) -> jax.Array:
        """pi's unbounded actions `F(sigma_g noise, sigma_g | s)` at `obs` `[B, O]`: `[B, A]`."""
        sigma = jnp.broadcast_to(sigma_g, noise.shape[:1])
        return apply(self.pi, params, sigma_g * noise, sigma, obs)

    # Acting.

    def acting(self, state: State) -> Params:
        sigma_g = state.hparams['generation_sigma']
        return {**super().acting(state), 'generation_sigma': sigma_g}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Unbounded samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`."""
        obs = jnp.broadcast_to(obs, (noise.shape[0], *obs.shape))
        return self.generate(acting['pi'], obs, noise, acting['generation_sigma'])

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Draws one of the samples of pi as DTQL does, then clips it to the box."""
        bound = self.spec.max_action
        return jnp.clip(super().act(acting, obs, key), -bound, bound)


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 7)
    b, a = batch.action.shape
    return Draws(
        clone_u=jax.random.uniform(keys[0], (b,)),
        clone_noise=jax.random.normal(keys[1], (b, a)),
        pi_noise=jax.random.normal(keys[2], (b, a)),
        kl_u=jax.random.uniform(keys[3], (b,)),
        kl_noise=jax.random.normal(keys[4], (b, a)),
        fake_u=jax.random.uniform(keys[5], (b,)),
        fake_noise=jax.random.normal(keys[6], (b, a)),
    )
