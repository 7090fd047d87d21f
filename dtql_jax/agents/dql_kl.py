"""DQL-KL: the distillation baseline in the DTQL paper (NeurIPS 2024, arXiv 2405.19690).

As in DTQL a one-step policy `pi` climbs Q near a diffusion policy `mu` that clones the data. Here
the pull towards mu is the gradient of a KL divergence, the difference of two denoisers at pi's
actions (distribution matching distillation, arXiv 2311.18828): mu's, and that of a third network
`fake`, which is trained on pi's own actions. DTQL needs no such network: that is its point.

Symbols: as in `dtql`; D_mu and D_fake the two denoisers, `generation_sigma` the noise level that pi
starts from. `alpha` weighs the KL loss, `eta` Q (1 in the released code; 0 leaves a clone).

As the released code has it:
- pi is a raw network of mu's architecture, `F(sigma_g xi, sigma_g | s)`: its time input is sigma_g
  itself, not ln(sigma_g) / 4, and neither EDM's scalings nor a squashing follow;
- both start from mu's weights at the end of the pre-training;
- the KL gradient is divided by the mean |a - D_mu|, without a floor;
- actions are ranked by Q as pi makes them. We clip the chosen one to the box, where the released
  code leaves that to the environment.
Left out: what `dtql` leaves out. There is no likelihood term, hence no `gamma`.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.dtql import CloneAndCritic, SharedConfig
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion.karras import EDM
from dtql_jax.nn.denoisers import Denoiser
from dtql_jax.types import Metrics, Params, Phase, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SharedConfig):
    """Settings of DQL-KL; defaults are the released ones. The floats are data (see `base`)."""

    generation_sigma: float = setting(2.5, 'noise level that pi starts from')


class Draws(NamedTuple):
    """Every random number of one update, standard: quantiles in [0, 1) and normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]
    pi_noise: jax.Array  # [B, A]
    kl_u: jax.Array  # [B]
    kl_noise: jax.Array  # [B, A]
    fake_u: jax.Array  # [B]
    fake_noise: jax.Array  # [B, A]


class DQLKL(CloneAndCritic):
    """The agent: another pi than DTQL's, another loss of pi, and the network `fake`."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    schedule: ClassVar[EDM] = EDM()  # the only one that its authors have

    @property
    def pi(self) -> Denoiser:
        return self.mu

    def networks(self) -> dict[str, tuple]:
        networks = super().networks()
        return {**networks, 'pi': networks['mu'], 'fake': networks['mu']}

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
        """pi and fake start from the pre-trained mu, each with a copy of its own."""
        copies = {name: jax.tree.map(jnp.copy, state.params['mu']) for name in ('pi', 'fake')}
        return state.replace(params={**state.params, **copies})

    # One update.

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Critic, clone, policy, fake, target; fake learns from the action of pi's own step."""
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
        """pi: alpha L_KL - eta E min_k Q_k(s, a_pi), with dL_KL / da_pi = g / (B A).

        `g = (D_fake - D_mu) / mean |a_pi - D_mu|`, the denoisers at one noisy copy of `a_pi` and
        the mean over dims; `L_KL = E (a_pi - sg(a_pi - g))^2 / 2` has it as its gradient.
        """
        h = state.hparams
        action = self.generate(state.params['pi'], batch.obs, draws.pi_noise, h['generation_sigma'])
        sigma = self.schedule.sigma(draws.kl_u)
        a = jax.lax.stop_gradient(action)
        noisy = a + sigma[:, None] * draws.kl_noise
        real, fake = (
            self.schedule.denoise(
                self.network(state.params[name], batch.obs), noisy, sigma, self.spec.max_action
            )
            for name in ('mu', 'fake')
        )
        g = (fake - real) / jnp.mean(jnp.abs(a - real), axis=-1, keepdims=True)
        kl = 0.5 * jnp.mean((action - (a - g)) ** 2)
        q = self.q.apply({'params': state.params['critic']['q']}, batch.obs, action).min(0).mean()
        loss = h['alpha'] * kl - h['eta'] * q
        return loss, {'pi/loss': loss, 'pi/kl_loss': kl, 'pi/q': q}

    def fake_loss(
        self, state: State, batch: Transition, draws: Draws, action: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """fake: the denoising loss on pi's actions `[B, A]`."""
        params, u, noise = state.params['fake'], draws.fake_u, draws.fake_noise
        loss = self.denoising_loss(params, batch.obs, action, u, noise)
        return loss, {'fake/loss': loss}

    def generate(
        self, params: Params, obs: jax.Array, noise: jax.Array, sigma_g: jax.Array
    ) -> jax.Array:
        """pi's actions `F(sigma_g noise, sigma_g | s)` at `obs` `[B, O]`: `[B, A]`, unbounded."""
        sigma = jnp.broadcast_to(sigma_g, noise.shape[:1])
        return self.pi.apply({'params': params}, sigma_g * noise, sigma, obs)

    # Acting.

    def acting(self, state: State) -> Params:
        sigma_g = state.hparams['generation_sigma']
        return {**super().acting(state), 'generation_sigma': sigma_g}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`, unbounded."""
        obs = jnp.broadcast_to(obs, (noise.shape[0], *obs.shape))
        return self.generate(acting['pi'], obs, noise, acting['generation_sigma'])

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """DTQL's choice among the candidates, then clipped to the box."""
        bound = self.spec.max_action
        return jnp.clip(super().act(acting, obs, key), -bound, bound)


def draw(state: State, batch: Transition) -> Draws:
    """The random numbers of the update `state.step`, a function of the run's key and the step."""
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
