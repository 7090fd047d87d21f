"""Behaviour cloning with a diffusion policy: DTQL's `mu` (arXiv 2405.19690), trained alone.

A denoiser of actions, given the state, is trained on the data's actions. Acting draws one sample
from it by a sampler of EDM (arXiv 2206.00364). BC uses no reward, value or critic, so it shows what
the data alone gives.

Symbols: s `obs`, a `action`, D the denoiser of mu, sigma a noise level. `s_churn`, `s_min`,
`s_max`, `s_noise` are EDM's S_churn, S_tmin, S_tmax, S_noise.

The network, the loss and the learning rate are those of mu in DTQL's released code (see `clone`),
but one phase replaces pre-training and training. The released code never samples from mu. The 18
steps are EDM's for CIFAR-10: of a Gaussian with deviation 0.2, Heun's samples have the deviation
0.26 after 10 steps and 0.21 after 20. `s_min` and `s_max` are EDM's for ImageNet (its table 5). Our
own choices are `s_churn`, which is smaller than for hundreds of steps; `s_noise` 1, which adds as
much noise as is removed; and the clip of D to the box at every step.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from dtql_jax.agents import base, clone
from dtql_jax.agents.base import State
from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.agents.settings import setting
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition

SAMPLERS = ('heun', 'stochastic')
CHURN = ('s_churn', 's_min', 's_max', 's_noise')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(clone.Config):
    """The settings of BC."""

    lr: float = setting(3e-4, 'learning rate')
    lr_decay: bool = setting(False, 'cosine decay of the learning rate to 0 over `steps`')
    sampler: str = setting(
        'heun',
        "EDM's sampler of actions; heun is its algorithm 1, stochastic its algorithm 2",
        choices=SAMPLERS,
    )
    sampler_steps: int = setting(18, 'number of noise levels of the sampler', least=1)
    s_churn: float = setting(5.0, "EDM's S_churn: how much noise the stochastic sampler adds")
    s_min: float = setting(0.05, "EDM's S_tmin: the stochastic sampler adds no noise below it")
    s_max: float = setting(50.0, "EDM's S_tmax: the stochastic sampler adds no noise above it")
    s_noise: float = setting(1.0, "EDM's S_noise: factor on the noise of the stochastic sampler")


class Draws(NamedTuple):
    """All random numbers of one update: quantiles in [0, 1) and standard normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]


class BC(DiffusionClone):
    """The agent. Its network and its loss are those of `DiffusionClone`."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """One optimiser step of mu on the denoising loss of the data's actions."""
        lr = state.hparams['lr']
        if self.config.lr_decay:
            lr *= cosine_decay(state.step, self.config.steps)
        state, metrics = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        return state.replace(step=state.step + 1), metrics

    def acting(self, state: State) -> Params:
        return {'mu': state.params['mu'], **{name: state.hparams[name] for name in CHURN}}

    def sample(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples `[B, A]` of mu at `obs` `[B, O]` from standard normal `noise`.

        Heun's sampler takes `noise` `[1, B, A]`, the start of the chain. The stochastic sampler
        takes `[1 + N, B, A]`: the start, then one row for each of its N steps.
        """
        network, clip = self.network(acting['mu'], obs), self.spec.max_action
        if self.config.sampler == 'heun':
            return self.schedule.sample_heun(network, noise[0], self.config.sampler_steps, clip)
        churn = {name: acting[name] for name in CHURN}
        return self.schedule.sample_stochastic(network, noise[0], noise[1:], **churn, clip=clip)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """One sample of mu. It lies in the box, because the sampler ends with the clipped D."""
        draws = 1 if self.config.sampler == 'heun' else 1 + self.config.sampler_steps
        noise = jax.random.normal(key, (draws, 1, self.spec.action_dim))
        return self.sample(acting, obs[None], noise)[0]


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    key_u, key_noise = jax.random.split(jax.random.fold_in(state.key, state.step))
    return Draws(
        clone_u=jax.random.uniform(key_u, batch.action.shape[:1]),
        clone_noise=jax.random.normal(key_noise, batch.action.shape),
    )
