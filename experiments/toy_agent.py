"""What keeps a one-step policy near the data: five ways in one agent, each with its weight.

  dtql train --env=toy-25gaussians-far --agent=experiments/toy_agent.py:Toy --alpha=1 --eta=1

A diffusion policy `mu` clones the data and a critic learns Q, both before pi begins (`pretrain`).
Then both stay, and a one-step policy pi minimises

    alpha L_TR + kl L_KL + reverse L_SDS - gamma E log pi(a_data | s) - eta E min_k Q_k(s, a_pi).

L_TR is DTQL's trust region, L_KL the distillation of DQL-KL, L_SDS SRPO's score distillation of
mu, and the likelihood of the data is the forward KL. A term of weight 0 costs nothing on a CPU,
where lanes are trained one by one.

Differences to the released toy script: mu and the critic do not train on beside pi, pi's
networks are those of DTQL's setting `policy`, batches are drawn, and an episode ends. SRPO has a
noise network of its own; here mu predicts the noise, so that all terms see the same clone, and the
true noise is subtracted as in SRPO's paper (`baseline`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

import dtql_jax
from dtql_jax import Phase, State, Transition, setting
from dtql_jax.agents import dtql
from dtql_jax.agents.bc import draw as draw_clone
from dtql_jax.agents.dql_kl import Distilled
from dtql_jax.agents.srpo import POLICY_TIMES, between
from dtql_jax.agents.tables.dtql import TABLE as DTQL_TABLE
from dtql_jax.diffusion import VPSDE
from dtql_jax.nn.layers import apply
from dtql_jax.types import Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dtql.Config):
    """The settings: DTQL's, and the weights of the rivals of its trust region."""

    trains: str = setting(
        'all',
        'what trains in the `steps` updates; all: pi, and before it mu and the critic',
        choices=('all', 'mu', 'critic', 'pi'),
    )
    alpha: float = setting(0.0, 'weight of the trust region')
    clip: float = setting(0.0, 'whether (1 or 0) the trust region clips denoised actions', most=1)
    kl: float = setting(0.0, 'weight of the KL loss of DQL-KL')
    reverse: float = setting(0.0, "weight of SRPO's score distillation")
    eta: float = setting(0.0, 'weight of Q')
    candidates: int = setting(1, 'number of sampled actions among which acting chooses', least=1)


class Draws(NamedTuple):
    """All random numbers of one update of pi: quantiles in [0, 1), standard normal noise."""

    pi_noise: jax.Array  # [B, A]
    u: jax.Array  # [B], of the noise level of the term that has a weight
    noise: jax.Array  # [B, A]
    fake_u: jax.Array  # [B]
    fake_noise: jax.Array  # [B, A]


class Toy(Distilled, dtql.DTQL):
    """The agent. It needs data with one state, as the toy tasks have."""

    config: Config
    config_class: ClassVar[type[dtql_jax.Config]] = Config
    inherited: ClassVar[tuple[str, ...] | None] = ('critic', 'mu')

    def phases(self) -> tuple[Phase, ...]:
        c, (pretrain, _) = self.config, super().phases()

        def mu(state: State, batch: Transition) -> tuple[State, Metrics]:
            draws = draw_clone(state, batch)
            lr = state.hparams['lr'] * self.decay(state)
            state, metrics = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
            return state.replace(step=state.step + 1), metrics

        def critic(state: State, batch: Transition) -> tuple[State, Metrics]:
            lr = state.hparams['critic_lr'] * self.decay(state)
            state, metrics = self.descend(state, 'critic', lr, self.critic_loss, batch)
            return state.replace(step=state.step + 1), metrics

        def pi(state: State, batch: Transition) -> tuple[State, Metrics]:
            return self.train(state, batch, draw(state, batch))

        if c.trains in ('mu', 'critic'):
            update = mu if c.trains == 'mu' else critic
            return (Phase('train', update, c.steps, c.batch_size),)
        train = Phase('train', pi, c.steps, c.batch_size, enter=self.enter)
        return (pretrain, train) if c.trains == 'all' else (train,)

    def enter(self, state: State) -> State:
        """Sets fake to a copy of the pre-trained mu, as DQL-KL does."""
        fake = jax.tree.map(jnp.copy, state.params['mu'])
        return state.replace(params={**state.params, 'fake': fake})

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates pi and, where L_KL has a weight, fake."""
        lr = state.hparams['lr'] * self.decay(state)
        action = jax.lax.stop_gradient(self.actions(state, batch, draws))
        state, metrics = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)

        def update_fake(state: State) -> tuple[State, Metrics]:
            return self.descend(state, 'fake', lr, self.fake_loss, batch, draws, action)

        state, m_fake = self.when(state.hparams['kl'] > 0, update_fake, state)
        return state.replace(step=state.step + 1), {**metrics, **m_fake}

    def actions(self, state: State, batch: Transition, draws: Draws) -> jax.Array:
        """pi's actions `[B, A]`."""
        return self.policy.sample(self.at(state, batch), draws.pi_noise)

    def at(self, state: State, batch: Transition) -> Any:
        """pi at the one state of the batch."""
        return self.policy.at(state.params['pi'], batch.obs[:1])

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: the sum of the terms of this module's docstring."""
        h, obs = state.hparams, batch.obs
        u, noise = draws.u, draws.noise
        terms: dict[str, tuple[jax.Array, Callable[[jax.Array], jax.Array]]] = {
            'trust_loss': (h['alpha'], lambda a: self.trust_loss(state, obs, a, u, noise)),
            'kl_loss': (h['kl'], lambda a: self.kl_loss(state, obs, a, u, noise)),
            'reverse_loss': (h['reverse'], lambda a: self.reverse_loss(state, obs, a, u, noise)),
            'q': (-h['eta'], lambda a: self.mean_q(state, obs, a)),
        }
        action, loss, metrics = self.actions(state, batch, draws), jnp.float32(0), {}
        for name, (weight, term) in terms.items():
            value = jax.lax.cond(weight != 0, term, lambda a: jnp.float32(0), action)
            loss += weight * value
            metrics[f'pi/{name}'] = value
        if self.policy.has_density:
            pi = [jnp.broadcast_to(x, batch.action.shape) for x in self.at(state, batch)]
            log_prob = self.policy.log_prob(pi, batch.action).mean()
            loss -= h['gamma'] * log_prob
            metrics['pi/log_prob'] = log_prob
        return loss, {'pi/loss': loss, **metrics}

    def trust_loss(
        self, state: State, obs: jax.Array, action: jax.Array, u: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """DTQL's trust region. The setting `clip` is a number, so that lanes may differ in it."""
        bound = jnp.where(state.hparams['clip'] > 0, self.spec.max_action, jnp.inf)
        network = self.network(state.params['mu'], obs)
        return self.schedule.loss(network, action, self.schedule.sigma(u), noise, bound)

    def reverse_loss(
        self, state: State, obs: jax.Array, action: jax.Array, u: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """SRPO's `E <sg d, a>` with `d = sigma_t^2 (eps(alpha_t a + sigma_t z, t | s) - z)`."""
        sde, t = VPSDE(), between(POLICY_TIMES, u)

        def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
            network = self.network(state.params['mu'], obs)
            return self.schedule.denoise(network, x, sigma, self.loss_clip)

        noisy = sde.add_noise(jax.lax.stop_gradient(action), t, noise)
        direction = sde.sigma(t)[:, None] ** 2 * (sde.noise_of(denoise, noisy, t) - noise)
        return jnp.mean(jnp.sum(direction * action, axis=-1))

    def mean_q(self, state: State, obs: jax.Array, action: jax.Array) -> jax.Array:
        """`E min_k Q_k(s, a)`."""
        return apply(self.q, state.params['critic']['q'], obs, action).min(0).mean()


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 5)
    b, a = batch.action.shape
    return Draws(
        pi_noise=jax.random.normal(keys[0], (b, a)),
        u=jax.random.uniform(keys[1], (b,)),
        noise=jax.random.normal(keys[2], (b, a)),
        fake_u=jax.random.uniform(keys[3], (b,)),
        fake_noise=jax.random.normal(keys[4], (b, a)),
    )


TABLE = {'toy': {**DTQL_TABLE['toy'], 'alpha': 1.0, 'eta': 1.0, 'candidates': 1, 'clone_seeds': 0}}
