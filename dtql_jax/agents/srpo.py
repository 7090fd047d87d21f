"""Score Regularized Policy Optimization (Chen, Lu, Wang, Su & Zhu, ICLR 2024, arXiv 2310.07297).

A diffusion model `mu` clones the data, then IQL's critic is learned, then a deterministic policy
`pi` maximises Q. Pi is kept near the data by mu's noise prediction at pi's noised action, which is
-sigma_t times the score of the noised data. So training pi needs no denoising chain and no gradient
through mu, and acting is one call of a small network.

Symbols: s `obs`, a `action`, `eps(x, t | s)` the noise that mu predicts, t the time of the
continuous process `x = alpha_t a + sigma_t z`, `w(t)` the setting `weight`, `beta` the weight of Q
(1 / beta in the paper's objective; 0 gives a clone that seeks a mode of the data).

Where paper and released code differ, this follows the code:
- the noise z is not subtracted from eps by default; `baseline` subtracts it, as in the paper;
- pi maximises the mean of the two target critics, not their minimum;
- on mazes the gradient of Q is divided by its root mean square over the action's dimensions
  (`normalise_q_gradient`) and pi has four hidden layers.
This differs from the code in four points: batches are drawn with replacement, its three programs
are three phases of one run, normalisation leaves a gradient of 0 at 0, and pi's actions scale with
the box. Left out: the policy that the code trains beside the critic by advantage-weighted
regression, for monitoring only, and an unused linear layer in each of mu's blocks.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtql_jax.agents import base, iql_critic
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion.sde import VPSDE
from dtql_jax.nn.denoisers import FixedFourierFeatures, ResidualDenoiser, dropout_factors
from dtql_jax.nn.layers import ACTIVATIONS, MLP, apply
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition

TIME_DIM = 64  # number of Fourier features of t
TIME_DEVIATION = 30.0  # deviation of their frequencies
WEIGHT_DECAY = 0.01  # weight decay of mu
CLONE_TIMES = (1e-3, 1.0)  # the range of the uniform t in mu's loss
POLICY_TIMES = (0.02, 0.98)  # the range of the uniform t in pi's loss
SMALLEST_RMS = 1e-12  # a smaller root mean square of the gradient of Q counts as this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(iql_critic.Config):
    """The settings of SRPO. The defaults are the released ones, `beta` that of hopper-medium."""

    behaviour_steps: int = setting(2_000_000, 'number of updates of mu, in the first phase')
    behaviour_batch_size: int = setting(2048, 'number of transitions per update of mu', least=1)
    critic_steps: int = setting(1_500_000, 'number of updates of the critic, in the second phase')
    lr: float = setting(
        3e-4, 'learning rate of mu and pi; a cosine takes that of pi to 0 over `steps`'
    )
    dropout: float = setting(0.1, 'dropout rate in the blocks of mu', below=1)
    beta: float = setting(0.05, "weight of Q in pi's loss; 0 gives a clone of the data")
    weight: str = setting(
        'VDS',
        "weight of mu's prediction in pi's loss; VDS is sigma_t^2, stable 1, score "
        'alpha_t / sigma_t',
        choices=('VDS', 'stable', 'score'),
    )
    baseline: bool = setting(False, "subtract the true noise from mu's prediction in pi's loss")
    normalise_q_gradient: bool = setting(
        False, 'divide the gradient of Q by its root mean square over the action dims'
    )
    mu_blocks: int = setting(3, 'number of residual blocks of mu', least=1)
    mu_activation: str = setting('mish', 'activation of mu', choices=ACTIVATIONS)
    policy_layers: int = setting(2, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')


class CloneDraws(NamedTuple):
    """All random numbers of one update of mu; `noise` is standard normal."""

    u: jax.Array  # [B], in [0, 1)
    noise: jax.Array  # [B, A]
    dropout: jax.Array  # [blocks, B, hidden], in [0, 1)


class Draws(NamedTuple):
    """All random numbers of one update of pi; `noise` is standard normal. The critic has none."""

    u: jax.Array  # [B], in [0, 1)
    noise: jax.Array  # [B, A]


class SRPO(iql_critic.IQLCritic):
    """The agent. Its phases are the three programs of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    clone: ClassVar[dict[str, float]] = {'beta': 0.0}
    offline_only: ClassVar[str | None] = 'its last phase trains pi alone, by a frozen mu and critic'

    sde: ClassVar[VPSDE] = VPSDE()

    @property
    def mu(self) -> ResidualDenoiser:
        features = FixedFourierFeatures(TIME_DIM, TIME_DEVIATION)
        c = self.config
        activation = ACTIVATIONS[c.mu_activation]
        return ResidualDenoiser(self.spec.action_dim, features, activation, c.hidden, c.mu_blocks)

    @property
    def pi(self) -> MLP:
        c = self.config
        activation = ACTIVATIONS[c.policy_activation]
        return MLP(
            (c.hidden,) * c.policy_layers, self.spec.action_dim, activation, c.policy_layer_norm
        )

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {
            'mu': (self.mu, (action, jnp.zeros(1), obs)),
            **super().networks(),
            'pi': (self.pi, (obs,)),
        }

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """Adam; for mu with decoupled weight decay, except on the frequencies of its features."""
        adam = super().optimiser(name)
        if name != 'mu':
            return adam

        def decays(params: Params) -> dict[str, bool]:
            return {part: part != 'features' for part in params}

        return optax.chain(adam, optax.add_decayed_weights(WEIGHT_DECAY, decays))

    def phases(self) -> tuple[Phase, ...]:
        c = self.config

        def behaviour(state: State, batch: Transition) -> tuple[State, Metrics]:
            return self.behaviour(state, batch, draw_clone(state, batch, self.mu))

        return (
            Phase(
                'behaviour', behaviour, c.behaviour_steps, c.behaviour_batch_size, evaluate=False
            ),
            Phase('critic', self.critic, c.critic_steps, c.batch_size, evaluate=False),
            Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),
        )

    # One update of each phase.

    def behaviour(
        self, state: State, batch: Transition, draws: CloneDraws
    ) -> tuple[State, Metrics]:
        """Updates mu."""
        lr = state.hparams['lr']
        state, metrics = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        return state.replace(step=state.step + 1), metrics

    def critic(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        """Updates Q, then V, then the target critic. Q's step uses the V before its update."""
        lr = state.hparams['critic_lr']
        state, m_q = self.descend(state, 'q', lr, self.q_loss, batch)
        state, m_v = self.descend(state, 'v', lr, self.v_loss, batch)
        state = self.track(state, 'q', state.hparams['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_v}

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates pi."""
        c = self.config
        updates = state.step - c.behaviour_steps - c.critic_steps
        lr = state.hparams['lr'] * cosine_decay(updates, c.steps)
        state, metrics = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)
        return state.replace(step=state.step + 1), metrics

    # The losses.

    def clone_loss(
        self, state: State, batch: Transition, draws: CloneDraws
    ) -> tuple[jax.Array, Metrics]:
        """mu: L = E |eps(alpha_t a + sigma_t z, t | s) - z|^2, summed over action dims."""
        dropout = dropout_factors(draws.dropout, state.hparams['dropout'])

        def network(x: jax.Array, t: jax.Array) -> jax.Array:
            return apply(self.mu, state.params['mu'], x, t, batch.obs, dropout)

        loss = self.sde.loss(network, batch.action, between(CLONE_TIMES, draws.u), draws.noise)
        return loss, {'mu/loss': loss}

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: L = E <sg d, a_pi> with d of `direction`. The gradient by a_pi is d / B."""
        action = self.policy(state.params['pi'], batch.obs)
        fixed = jax.lax.stop_gradient(action)
        direction, q = self.direction(state, batch.obs, fixed, draws)
        loss = jnp.mean(jnp.sum(jax.lax.stop_gradient(direction) * action, axis=-1))
        return loss, {'pi/loss': loss, 'pi/q': q.mean()}

    def direction(
        self, state: State, obs: jax.Array, action: jax.Array, draws: Draws
    ) -> tuple[jax.Array, jax.Array]:
        """`d = w(t) eps(alpha_t a + sigma_t z, t | s) - beta g` and Q at `action`: `[B, A], [B]`.

        Q is the mean of the two target critics, and g is its gradient by the action. With
        `baseline`, `eps - z` replaces eps.
        """
        t = between(POLICY_TIMES, draws.u)
        noisy = self.sde.add_noise(action, t, draws.noise)
        score = apply(self.mu, state.params['mu'], noisy, t, obs)
        if self.config.baseline:
            score -= draws.noise

        def total_q(action: jax.Array) -> tuple[jax.Array, jax.Array]:
            q = apply(self.q, state.target['q'], obs, action).mean(0)
            return q.sum(), q

        gradient, q = jax.grad(total_q, has_aux=True)(action)
        if self.config.normalise_q_gradient:
            rms = jnp.sqrt(jnp.mean(gradient**2, axis=-1, keepdims=True))
            gradient /= jnp.maximum(rms, SMALLEST_RMS)
        return self.weight(t)[:, None] * score - state.hparams['beta'] * gradient, q

    def weight(self, t: jax.Array) -> jax.Array:
        """`w(t)`: sigma_t^2, 1, or alpha_t / sigma_t, by the setting `weight`."""
        match self.config.weight:
            case 'VDS':
                return self.sde.sigma(t) ** 2
            case 'stable':
                return jnp.ones_like(t)
            case _:
                return self.sde.alpha(t) / self.sde.sigma(t)

    # Acting.

    def policy(self, params: Params, obs: jax.Array) -> jax.Array:
        """`max_action tanh(pi(s))` for `obs` `[..., O]`: `[..., A]`."""
        return self.spec.max_action * jnp.tanh(apply(self.pi, params, obs))

    def acting(self, state: State) -> Params:
        return {'pi': state.params['pi']}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The action of pi. `key` is not used."""
        del key
        return self.policy(acting['pi'], obs)


def between(ends: tuple[float, float], u: jax.Array) -> jax.Array:
    """`low + (high - low) u`."""
    low, high = ends
    return low + (high - low) * u


def draw_clone(state: State, batch: Transition, mu: ResidualDenoiser) -> CloneDraws:
    """Draws the random numbers of mu's update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
    b, a = batch.action.shape
    return CloneDraws(
        u=jax.random.uniform(keys[0], (b,)),
        noise=jax.random.normal(keys[1], (b, a)),
        dropout=jax.random.uniform(keys[2], (mu.blocks, b, mu.hidden)),
    )


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of pi's update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step))
    b, a = batch.action.shape
    return Draws(u=jax.random.uniform(keys[0], (b,)), noise=jax.random.normal(keys[1], (b, a)))
