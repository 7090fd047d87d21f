"""Diffusion-QL (Wang, Hunt & Zhou, ICLR 2023, arXiv 2208.06193).

A diffusion policy is trained to clone the data and to maximise Q, with gradients through its whole
sampling chain. The critics learn from next actions that an averaged copy of the policy samples.
Acting samples many actions and draws one of them by a softmax over Q.

Symbols: s `obs`, a `action`, eps the noise network `actor`, T `diffusion_steps`, `eta` the weight
of Q (0 gives a clone), `max_norm` the bound on each gradient's norm (`gn` in the released code).

Where paper and released code differ, this follows the code:
- each update tosses a coin: it maximises one critic, divided by the mean |Q| of the other;
- the averaged policy keeps the initial weights for 1000 updates, then moves at every fifth update;
- `lr_decay` 'released' hardly decays. Its cosine advances once per 50,000 updates, but its period
  counts epochs of 1000 updates: the factor is 0.999 after 2,000,000 updates. 'cosine' is the
  cosine over `steps`, 'none' a constant rate;
- the critic's learning rate is always 3e-4;
- with `max_q_backup`, on most AntMaze tasks, each critic's target is its best of 10 next actions.
Left out: the choice of a checkpoint by its score or its cloning loss. The paper's scores come from
such a choice, so they are not those of the last update.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.candidates import draw_by_q, min_q
from dtql_jax.agents.settings import setting, with_default
from dtql_jax.diffusion.ddpm import DDPM
from dtql_jax.diffusion.karras import Network
from dtql_jax.nn import losses
from dtql_jax.nn.critics import TwinQ
from dtql_jax.nn.denoisers import NoisePredictor
from dtql_jax.nn.layers import ACTIVATIONS, apply
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition

BACKUP_ACTIONS = 10  # next actions per state with max_q_backup
EPOCH = 1000  # updates per epoch of the released code
RELEASED_DECAY_EVERY = 50_000  # updates per step of its learning-rate scheduler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """The settings of Diffusion-QL. The defaults are the released ones of halfcheetah-medium."""

    steps: int = with_default(base.Config, 'steps', 2_000_000)
    lr: float = setting(3e-4, 'learning rate of the policy')
    critic_lr: float = setting(3e-4, 'learning rate of the critic')
    lr_decay: str = setting(
        'released',
        'decay of both learning rates; released hardly decays, cosine ends at 0 after `steps`',
        choices=('released', 'cosine', 'none'),
    )
    eta: float = setting(1.0, "weight of Q in the policy's loss; 0 gives a clone of the data")
    max_q_backup: bool = setting(False, "each critic's target is its best of ten next actions")
    max_norm: float = setting(9.0, 'bound on the norm of the gradient of each network', above=0)
    tau: float = setting(0.005, 'update rate of the target critic', most=1)
    ema_tau: float = setting(0.005, 'update rate of the averaged policy', most=1)
    ema_start: int = setting(1000, 'number of updates before the averaged policy first moves')
    ema_every: int = setting(5, 'the averaged policy moves once in so many updates', least=1)
    diffusion_steps: int = setting(5, 'number of steps of the diffusion chain', least=1)
    candidates: int = setting(
        50, 'number of sampled actions among which acting chooses by Q', least=1
    )
    inverse_temperature: float = setting(
        1.0, 'factor on Q in the softmax that chooses among the candidates'
    )
    hidden: int = setting(256, 'width of the hidden layers of all networks', least=1)
    critic_layers: int = setting(3, 'number of hidden layers of Q', least=1)
    critic_activation: str = setting('mish', 'activation of Q', choices=ACTIVATIONS)
    critic_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of Q')
    actor_layers: int = setting(3, 'number of hidden layers of the noise network', least=1)
    actor_activation: str = setting('mish', 'activation of the noise network', choices=ACTIVATIONS)
    actor_layer_norm: bool = setting(
        False, 'LayerNorm after each hidden layer of the noise network'
    )

    @property
    def next_actions(self) -> int:
        """The number of actions that are sampled at each next state."""
        return BACKUP_ACTIONS if self.max_q_backup else 1


class Draws(NamedTuple):
    """All random numbers of one update; noise is standard normal.

    The noise of a chain is its start, then one row for each of its T steps. K is
    `Config.next_actions`.
    """

    next_noise: jax.Array  # [T + 1, B * K, A], the K rows of a state are adjacent
    clone_t: jax.Array  # [B], integers below T
    clone_noise: jax.Array  # [B, A]
    actor_noise: jax.Array  # [T + 1, B, A]
    coin: jax.Array  # [], in [0, 1)


class DiffusionQL(base.Agent):
    """The agent. `train` is one update, in the order of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ('critic', 'actor')
    clone: ClassVar[dict[str, float]] = {'eta': 0.0, 'inverse_temperature': 0.0}

    @property
    def schedule(self) -> DDPM:
        return DDPM(self.config.diffusion_steps)

    @property
    def q(self) -> TwinQ:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return TwinQ((c.hidden,) * c.critic_layers, activation, c.critic_layer_norm)

    @property
    def actor(self) -> NoisePredictor:
        c = self.config
        return NoisePredictor(
            self.spec.action_dim,
            c.hidden,
            layers=c.actor_layers,
            activation=ACTIVATIONS[c.actor_activation],
            layer_norm=c.actor_layer_norm,
        )

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {
            'critic': (self.q, (obs, action)),
            'actor': (self.actor, (action, jnp.zeros(1), obs)),
        }

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (
            Phase('train', lambda s, b: self.train(s, b, draw(s, b, c)), c.steps, c.batch_size),
        )

    # One update.

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates the critic, the policy, both targets: each loss uses the networks as updated."""
        c, h = self.config, state.hparams
        lr, critic_lr = (h[k] * self.decay(state) for k in ('lr', 'critic_lr'))
        # The released code increments its step after this, so the first move is at `ema_start`.
        due = (state.step >= c.ema_start) & (state.step % c.ema_every == 0)
        clip = {'max_norm': h['max_norm']}
        state, m_q = self.descend(
            state, 'critic', critic_lr, self.critic_loss, batch, draws, **clip
        )
        state, m_pi = self.descend(state, 'actor', lr, self.actor_loss, batch, draws, **clip)
        state = self.track(state, 'actor', jnp.where(due, h['ema_tau'], 0.0))
        state = self.track(state, 'critic', h['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_pi}

    def decay(self, state: State) -> jax.Array | float:
        """The factor on both learning rates, a function of the number of updates so far."""
        match self.config.lr_decay:
            case 'cosine':
                return cosine_decay(state.step, self.config.steps)
            case 'released':
                # The scheduler was called once per RELEASED_DECAY_EVERY updates, with the number of
                # epochs as its period.
                calls = state.step // RELEASED_DECAY_EVERY
                return cosine_decay(EPOCH * calls, self.config.steps)
            case _:
                return 1.0

    # The losses.

    def critic_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """L = sum_k E (Q_k(s, a) - y)^2 with y = sg (r + discount mask min_k max_j Q'_k(s', a'_j)).

        The K next actions `a'_j` are samples of the averaged policy. Q' is the target critic.
        """
        next_obs = jnp.repeat(batch.next_obs, self.config.next_actions, axis=0)
        next_action = self.sample(state.target['actor'], next_obs, draws.next_noise)
        next_q = apply(self.q, state.target['critic'], next_obs, next_action)
        next_value = next_q.reshape(2, -1, self.config.next_actions).max(-1).min(0)
        target = losses.td_target(batch.reward, batch.mask, next_value, state.hparams['discount'])
        q = apply(self.q, state.params['critic'], batch.obs, batch.action)
        loss = losses.twin_td_loss(q, target)
        return loss, {'critic/loss': loss, 'critic/q': q.mean()}

    def actor_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """L = L_d + eta L_q with L_q = -E Q_i(s, a_pi) / sg E |Q_j(s, a_pi)|.

        L_d is the denoising loss. The coin decides which critic is i; j is the other. `a_pi` is a
        sample of the policy, with the gradient through the whole chain.
        """
        network = self.network(state.params['actor'], batch.obs)
        clone = self.schedule.loss(network, batch.action, draws.clone_t, draws.clone_noise)
        action = self.sample(state.params['actor'], batch.obs, draws.actor_noise)
        q = apply(self.q, state.params['critic'], batch.obs, action)
        climbed, other = jnp.where(draws.coin > 0.5, q, q[::-1])
        q_loss = -climbed.mean() / jax.lax.stop_gradient(jnp.abs(other).mean())
        loss = clone + state.hparams['eta'] * q_loss
        metrics = {'clone_loss': clone, 'q_loss': q_loss, 'q': q.mean()}
        return loss, {'actor/loss': loss, **{f'actor/{k}': v for k, v in metrics.items()}}

    def network(self, params: Params, obs: jax.Array) -> Network:
        """The noise network at `obs` `[B, O]`."""
        return lambda x, t: apply(self.actor, params, x, t, obs)

    def sample(self, params: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Actions of the policy at `obs` `[B, O]` from `noise` `[T + 1, B, A]`: `[B, A]`."""
        network = self.network(params, obs)
        return self.schedule.sample(network, noise[0], noise[1:], clip=self.spec.max_action)

    # Acting.

    def acting(self, state: State) -> Params:
        return {
            'actor': state.params['actor'],
            'q': state.target['critic'],
            'inverse_temperature': state.hparams['inverse_temperature'],
        }

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of the policy at one observation `[O]` from `noise` `[N, T + 1, A]`: `[N, A]`."""
        obs = jnp.broadcast_to(obs, (noise.shape[0], *obs.shape))
        return self.sample(acting['actor'], obs, noise.swapaxes(0, 1))

    def candidate_q(self, acting: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """The target critic's minimum at one observation `[O]` for `action` `[N, A]`: `[N]`."""
        return min_q(self.q, acting['q'], obs, action)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Draws one of the samples of the policy by a softmax over the target critic's min Q."""
        c = self.config
        key_noise, key_draw = jax.random.split(key)
        shape = (c.candidates, c.diffusion_steps + 1, self.spec.action_dim)
        action = self.candidates(acting, obs, jax.random.normal(key_noise, shape))
        if c.candidates == 1:
            return action[0]
        return draw_by_q(
            key_draw,
            lambda a: self.candidate_q(acting, obs, a),
            action,
            acting['inverse_temperature'],
        )


def draw(state: State, batch: Transition, config: Config) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 5)
    (b, a), t = batch.action.shape, config.diffusion_steps
    return Draws(
        next_noise=jax.random.normal(keys[0], (t + 1, b * config.next_actions, a)),
        clone_t=jax.random.randint(keys[1], (b,), 0, t),
        clone_noise=jax.random.normal(keys[2], (b, a)),
        actor_noise=jax.random.normal(keys[3], (t + 1, b, a)),
        coin=jax.random.uniform(keys[4]),
    )
