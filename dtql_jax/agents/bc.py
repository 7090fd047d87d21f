"""Behaviour cloning with a diffusion policy: DTQL's `mu` (arXiv 2405.19690), trained alone.

A denoiser of actions given the state is trained on the data's actions. Acting draws one sample
from it by a sampler of EDM (arXiv 2206.00364). There is no reward, value or critic: what the data
alone gives, to compare with.

Symbols: s `obs`, a `action`, D the denoiser of mu, sigma a noise level. `s_churn`, `s_min`,
`s_max`, `s_noise` are EDM's S_churn, S_tmin, S_tmax, S_noise.

Network, loss and learning rate are those of mu in DTQL's released code (see `mu`), with one phase
in place of warm-up and training. That code never samples from mu. The 18 steps are EDM's for
CIFAR-10: with 10, Heun's samples of a Gaussian of deviation 0.2 have 0.26, with 20 0.21. `s_min`
and `s_max` are EDM's for ImageNet (its table 5). Ours are `s_churn`, smaller than for hundreds of
steps, `s_noise` 1, which adds what is removed, and the clip of D to the box at every step.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.nn.layers import ACTIVATIONS
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition

SAMPLERS = ('heun', 'stochastic')
CHURN = ('s_churn', 's_min', 's_max', 's_noise')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings of BC. The floats are data (see `base`)."""

    lr: float = setting(3e-4)
    lr_decay: bool = setting(False, 'cosine decay of the learning rate over `steps`')
    schedule: str = setting('edm', "of mu's noise; or vp, ve", choices=SCHEDULES)
    sampler: str = setting(
        'heun', "EDM's algorithm 1; or stochastic, its algorithm 2", choices=SAMPLERS
    )
    sampler_steps: int = setting(18, 'noise levels of the sampler; 2 n - 1 calls of mu', least=1)
    s_churn: float = setting(5.0, 'of the stochastic sampler, as the three below')
    s_min: float = setting(0.05)
    s_max: float = setting(50.0)
    s_noise: float = setting(1.0)
    hidden: int = setting(256, 'width of every hidden layer', least=1)
    mu_layers: int = setting(3, 'hidden layers of mu with an activation', least=1)
    mu_activation: str = setting('mish', 'of mu', choices=ACTIVATIONS)
    mu_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of mu')


class Draws(NamedTuple):
    """Every random number of one update, standard: quantiles in [0, 1) and normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]


class BC(DiffusionClone):
    """The agent; `DiffusionClone` has its network and its loss."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),)

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """One step down mu's denoising loss on the data's actions."""
        lr = state.hparams['lr']
        if self.config.lr_decay:
            lr *= cosine_decay(state.step, self.config.steps)
        state, metrics = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        return state.replace(step=state.step + 1), metrics

    def acting(self, state: State) -> Params:
        return {'mu': state.params['mu'], **{name: state.hparams[name] for name in CHURN}}

    def sample(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples `[B, A]` of mu at `obs` `[B, O]` from normal `noise` `[1 or 1 + N, B, A]`.

        The first draw of `noise` starts the chain; one more per step is read by the stochastic
        sampler alone.
        """
        network, clip = self.network(acting['mu'], obs), self.spec.max_action
        if self.config.sampler == 'heun':
            return self.schedule.sample_heun(network, noise[0], self.config.sampler_steps, clip)
        churn = {name: acting[name] for name in CHURN}
        return self.schedule.sample_stochastic(network, noise[0], noise[1:], **churn, clip=clip)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """One sample of mu. The sampler's last step is D itself, clipped to the box."""
        draws = 1 if self.config.sampler == 'heun' else 1 + self.config.sampler_steps
        noise = jax.random.normal(key, (draws, 1, self.spec.action_dim))
        return self.sample(acting, obs[None], noise)[0]


def draw(state: State, batch: Transition) -> Draws:
    """The random numbers of the update `state.step`, a function of the run's key and the step."""
    key_u, key_noise = jax.random.split(jax.random.fold_in(state.key, state.step))
    return Draws(
        clone_u=jax.random.uniform(key_u, batch.action.shape[:1]),
        clone_noise=jax.random.normal(key_noise, batch.action.shape),
    )
