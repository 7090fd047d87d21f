"""Diffusion Trusted Q-Learning (Chen, Wang & Zhou, NeurIPS 2024, arXiv 2405.19690).

A diffusion policy `mu` clones the data. A one-step policy `pi` maximises Q and acts. The trust
region keeps pi near the data: it is mu's denoising loss on pi's actions. Where the data has no
mode, mu denoises badly, the loss is large, and its gradient pushes pi back. Neither training nor
acting runs a denoising chain.

Symbols: s `obs`, a `action`, D the denoiser of mu, `alpha` the weight of the trust region, `gamma`
the weight of the likelihood term, `eta` the weight of Q (1 in the paper; 0 gives a clone).

Where paper and released code differ, this follows the code:
- L_TR averages over action dims, has the weight 1/c_out^2, and clips the denoised action to the
  box;
- V regresses on the min Q of the online critic; the target critic only chooses actions;
- the "entropy term" is the likelihood of *data* actions, without the tanh Jacobian, and is used
  only for AntMaze (`gamma` 0 elsewhere);
- mu's first linear layer has no activation (see `Denoiser`);
- training starts with 50,000 updates of mu and the critic only;
- gradients are not clipped and Q is not normalised; the critic's learning rate is always 3e-4;
- acting draws one of 1024 samples by a softmax over the target critic's min Q.
The paper allows other noise schedules and one-step policies: `schedule` and `policy` choose them.
The released code has one of these, an implicit policy without tanh in its toy tasks; ours is
another network. The constants of the schedules are ours too (see `one_step`, `dtql_jax.diffusion`).
Beyond the paper, and off by default: `normalise_q`, as in FQL; LayerNorm in V and pi.
Left out: the two averaged copies of the policies, which the released code never uses, and its one
update after the last epoch.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.agents import base, clone
from dtql_jax.agents.base import State
from dtql_jax.agents.candidates import draw_by_q
from dtql_jax.agents.clone import CloneDraws, DiffusionClone
from dtql_jax.agents.one_step import POLICIES, OneStepPolicy
from dtql_jax.agents.settings import setting
from dtql_jax.nn import losses
from dtql_jax.nn.critics import Critic, TwinQ, Value
from dtql_jax.nn.layers import ACTIVATIONS, apply
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedConfig(clone.Config):
    """The settings that DTQL and DQL-KL share. The defaults are the released ones."""

    pretrain_steps: int = setting(
        50_000, 'number of updates of mu and the critic before the training of pi'
    )
    lr: float = setting(3e-4, 'learning rate of all networks but the critic')
    critic_lr: float = setting(3e-4, 'learning rate of the critic')
    lr_decay: bool = setting(False, 'cosine decay of all learning rates to 0 over `steps`')
    alpha: float = setting(1.0, 'weight of the loss that keeps pi near mu')
    eta: float = setting(1.0, "weight of Q in pi's loss; 0 gives a clone of the data")
    expectile: float = setting(0.7, 'expectile of Q that V regresses on', most=1)
    tau: float = setting(0.005, 'update rate of the target critic', most=1)
    candidates: int = setting(
        1024, 'number of sampled actions among which acting chooses by Q', least=1
    )
    inverse_temperature: float = setting(
        1.0, 'factor on Q in the softmax that chooses among the candidates'
    )
    critic_layers: int = setting(3, 'number of hidden layers of Q and V', least=1)
    critic_activation: str = setting('mish', 'activation of Q and V', choices=ACTIVATIONS)
    q_layer_norm: bool = setting(True, 'LayerNorm after each hidden layer of Q')
    v_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of V')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SharedConfig):
    """The settings of DTQL. The defaults are the released ones."""

    gamma: float = setting(
        0.0, "weight of the likelihood of the data in pi's loss; needs a gaussian policy"
    )
    normalise_q: bool = setting(
        False, "divide Q in pi's loss by its mean magnitude, so that `alpha` suits any rewards"
    )
    policy: str = setting(
        'gaussian', 'kind of pi; the candidates of a deterministic one are equal', choices=POLICIES
    )
    policy_layers: int = setting(3, 'number of hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'activation of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma and not POLICIES[self.policy].has_density:
            raise UserError(
                f'`policy`={self.policy}, `gamma`={self.gamma}: a policy without a density has no '
                'likelihood term; set `gamma`=0 or `policy`=gaussian'
            )


class Draws(NamedTuple):
    """All random numbers of one update: quantiles in [0, 1) and standard normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]
    pi_noise: jax.Array  # [B, A]
    trust_u: jax.Array  # [B]
    trust_noise: jax.Array  # [B, A]


class CloneAndCritic(DiffusionClone):
    """The part that DTQL and DQL-KL share: the critic, the pre-training, the choice of actions.

    The network mu and its two losses come from `DiffusionClone`.
    """

    config: SharedConfig
    targets: ClassVar[tuple[str, ...]] = ('critic',)
    clone: ClassVar[dict[str, float]] = {'eta': 0.0, 'inverse_temperature': 0.0}

    @property
    def q(self) -> TwinQ:
        c = self.config
        hidden, activation = (c.hidden,) * c.critic_layers, ACTIVATIONS[c.critic_activation]
        return TwinQ(hidden, activation, c.q_layer_norm)

    @property
    def v(self) -> Value:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return Value((c.hidden,) * c.critic_layers, activation, layer_norm=c.v_layer_norm)

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'critic': (Critic(self.q, self.v), (obs, action)), **super().networks()}

    def decay(self, state: State) -> jax.Array | float:
        """The factor on all learning rates, a function of the number of training updates so far."""
        if not self.config.lr_decay:
            return 1.0
        return cosine_decay(state.step - self.config.pretrain_steps, self.config.steps)

    def pretrain(self, state: State, batch: Transition, draws: CloneDraws) -> tuple[State, Metrics]:
        """One update of mu, then the critic. Pi and the target critic stay; no rate decays."""
        lr = state.hparams
        state, m_mu = self.descend(state, 'mu', lr['lr'], self.clone_loss, batch, draws)
        state, m_q = self.descend(state, 'critic', lr['critic_lr'], self.critic_loss, batch)
        return state.replace(step=state.step + 1), {**m_mu, **m_q}

    def critic_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """L = L_V + L_Q: L_V = E |expectile - 1[q <= V]| (q - V)^2, L_Q = sum_k E (Q_k - y)^2.

        `q = sg min_k Q_k(s, a)` and `y = sg (r + discount mask V(s'))` use the online critic.
        """
        critic, h = state.params['critic'], state.hparams
        q = apply(self.q, critic['q'], batch.obs, batch.action)
        v = apply(self.v, critic['v'], batch.obs)
        next_v = apply(self.v, critic['v'], batch.next_obs)
        target = losses.td_target(batch.reward, batch.mask, next_v, h['discount'])
        v_loss = losses.expectile_loss(jax.lax.stop_gradient(q.min(0)) - v, h['expectile'])
        q_loss = losses.twin_td_loss(q, target)
        loss = v_loss + q_loss
        metrics = {
            'critic/loss': loss,
            'critic/value_loss': v_loss,
            'critic/td_loss': q_loss,
            'critic/q': q.mean(),
            'critic/v': v.mean(),
        }
        return loss, metrics

    def acting(self, state: State) -> Params:
        return {
            'pi': state.params['pi'],
            'q': state.target['critic']['q'],
            'inverse_temperature': state.hparams['inverse_temperature'],
        }

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`."""
        raise NotImplementedError

    def candidate_q(self, acting: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """The target critic's minimum at one observation `[O]` for `action` `[N, A]`: `[N]`."""
        obs = jnp.broadcast_to(obs, (action.shape[0], *obs.shape))
        return apply(self.q, acting['q'], obs, action).min(0)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Draws one of the samples of pi by a softmax over the target critic's min Q."""
        key_noise, key_draw = jax.random.split(key)
        noise = jax.random.normal(key_noise, (self.config.candidates, self.spec.action_dim))
        action = self.candidates(acting, obs, noise)
        if self.config.candidates == 1:
            return action[0]
        return draw_by_q(
            key_draw,
            lambda a: self.candidate_q(acting, obs, a),
            action,
            acting['inverse_temperature'],
        )


class DTQL(CloneAndCritic):
    """The agent. `train` is one update, in the order of the released code."""

    config: Config
    config_class: ClassVar[type[base.Config]] = Config

    @property
    def policy(self) -> OneStepPolicy:
        c = self.config
        return POLICIES[c.policy](
            self.spec, c.hidden, c.policy_layers, c.policy_activation, c.policy_layer_norm
        )

    @property
    def pi(self) -> nn.Module:
        return self.policy.network

    def networks(self) -> dict[str, tuple]:
        return {**super().networks(), 'pi': (self.pi, self.policy.inputs(*self.examples))}

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
            Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),
        )

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Updates the critic, mu, pi, the target critic: each loss uses the networks as updated."""
        lr, critic_lr = (state.hparams[k] * self.decay(state) for k in ('lr', 'critic_lr'))
        state, m_q = self.descend(state, 'critic', critic_lr, self.critic_loss, batch)
        state, m_mu = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)
        state = self.track(state, 'critic', state.hparams['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_mu, **m_pi}

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: L = alpha L_TR(a_pi) - eta E min_k Q_k(s, a_pi) - gamma E log pi(a_data | s).

        With `normalise_q` the term of Q is divided by `sg E |min_k Q_k(s, a_pi)|`.
        """
        h = state.hparams
        pi = self.policy.at(state.params['pi'], batch.obs)
        action = self.policy.sample(pi, draws.pi_noise)
        u, noise = draws.trust_u, draws.trust_noise
        trust = self.denoising_loss(state.params['mu'], batch.obs, action, u, noise)
        q = apply(self.q, state.params['critic']['q'], batch.obs, action).min(0)
        metrics = {'pi/trust_loss': trust, 'pi/q': q.mean()}
        gain = metrics['pi/q']
        if self.config.normalise_q:
            gain /= jax.lax.stop_gradient(jnp.abs(q).mean())
        loss = h['alpha'] * trust - h['eta'] * gain
        if self.policy.has_density:
            # Always in the program: the term is finite, so at gamma 0 it changes nothing.
            log_prob = self.policy.log_prob(pi, batch.action).mean()
            loss -= h['gamma'] * log_prob
            metrics['pi/log_prob'] = log_prob
        return loss, {'pi/loss': loss, **metrics}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`."""
        return self.policy.sample(self.policy.at(acting['pi'], obs), noise)


def draw(state: State, batch: Transition) -> Draws:
    """Draws the random numbers of the update `state.step` from the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 5)
    b, a = batch.action.shape
    return Draws(
        clone_u=jax.random.uniform(keys[0], (b,)),
        clone_noise=jax.random.normal(keys[1], (b, a)),
        pi_noise=jax.random.normal(keys[2], (b, a)),
        trust_u=jax.random.uniform(keys[3], (b,)),
        trust_noise=jax.random.normal(keys[4], (b, a)),
    )
