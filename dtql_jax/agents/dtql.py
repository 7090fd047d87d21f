"""Diffusion Trusted Q-Learning (Chen, Wang & Zhou, NeurIPS 2024, arXiv 2405.19690).

A diffusion policy `mu` clones the data. A one-step policy `pi` climbs Q and acts, and is kept near
the data by `mu`'s own denoising loss evaluated on pi's actions: the trust region. Where the data
has no mode, mu denoises badly, the loss is large, and pi is pushed back; no denoising chain runs.

Symbols: s `obs`, a `action`, D the denoiser of mu, `alpha` the weight of the trust region, `gamma`
the weight of the likelihood term, `eta` the weight of Q (1 in the paper; 0 leaves a clone).

Where paper and released code differ, this follows the code:
- L_TR averages over action dims, weighs by 1/c_out^2, and clips the denoised action to the box;
- V regresses on the online min Q, not on the target's; the target critic only picks actions;
- the "entropy term" is the likelihood of *data* actions, without the tanh Jacobian, and exists
  only for AntMaze (`gamma` 0 elsewhere);
- mu's first linear layer lacks an activation (see `Denoiser`);
- training starts with 50,000 updates of mu and the critic alone;
- no gradient clipping, no normalisation of Q; the critic's learning rate is 3e-4 whatever mu's is;
- acting draws one of 1024 samples by a softmax over the target critic's minimum.
The paper allows other noise schedules and one-step policies: `schedule` and `policy` choose them.
Of these the released code has an implicit policy, in its toy tasks only and without a squashing;
ours is another network, and so are the constants of the schedules (see `policies`, `diffusion`).
Left out: the two averaged copies of the policies, which the released code keeps and never reads,
and its one update beyond the last epoch.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.candidates import draw_by_q, min_q
from dtql_jax.agents.clone import CloneDraws, DiffusionClone
from dtql_jax.agents.one_step import POLICIES, OneStepPolicy
from dtql_jax.agents.settings import setting
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.nn import losses
from dtql_jax.nn.critics import Critic, TwinQ, Value
from dtql_jax.nn.layers import ACTIVATIONS
from dtql_jax.nn.optim import cosine_decay
from dtql_jax.types import Metrics, Params, Phase, Transition, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedConfig(base.Config):
    """Settings that DTQL and DQL-KL share; defaults are the released ones."""

    pretrain_steps: int = setting(50_000, 'updates of mu and the critic before training')
    lr: float = setting(3e-4, 'learning rate of mu and pi')
    critic_lr: float = setting(3e-4, 'learning rate of the critic')
    lr_decay: bool = setting(False, 'cosine decay of all learning rates over `steps`')
    alpha: float = setting(1.0, 'weight of the loss that keeps pi near mu')
    eta: float = setting(1.0, "weight of Q in pi's loss; 0 leaves a clone")
    expectile: float = setting(0.7, 'expectile of V', most=1)
    tau: float = setting(0.005, 'rate of the target critic', most=1)
    candidates: int = setting(
        1024, 'sampled actions to choose from when acting; 1 turns the choice off', least=1
    )
    inverse_temperature: float = setting(1.0, 'of the choice among candidates')
    hidden: int = setting(256, 'width of every hidden layer', least=1)
    critic_layers: int = setting(3, 'hidden layers of Q and V', least=1)
    critic_activation: str = setting('mish', 'of Q and V', choices=ACTIVATIONS)
    q_layer_norm: bool = setting(True, 'LayerNorm after each hidden layer of Q')
    v_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of V')
    mu_layers: int = setting(3, 'hidden layers of mu with an activation', least=1)
    mu_activation: str = setting('mish', 'of mu', choices=ACTIVATIONS)
    mu_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of mu')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SharedConfig):
    """Settings of DTQL. The floats are data (see `base`)."""

    gamma: float = setting(0.0, 'weight of the likelihood term, for a policy with a density')
    schedule: str = setting('edm', "of mu's noise", choices=SCHEDULES)
    policy: str = setting(
        'gaussian', 'kind of pi; deterministic makes `candidates` useless', choices=POLICIES
    )
    policy_layers: int = setting(3, 'hidden layers of pi', least=1)
    policy_activation: str = setting('relu', 'of pi', choices=ACTIVATIONS)
    policy_layer_norm: bool = setting(False, 'LayerNorm after each hidden layer of pi')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma and not POLICIES[self.policy].has_density:
            raise UserError(
                f'`policy`={self.policy}, `gamma`={self.gamma}: a policy without a density has no '
                'likelihood term; set `gamma`=0 or `policy`=gaussian'
            )


class Draws(NamedTuple):
    """Every random number of one update, standard: quantiles in [0, 1) and normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]
    pi_noise: jax.Array  # [B, A]
    trust_u: jax.Array  # [B]
    trust_noise: jax.Array  # [B, A]


class CloneAndCritic(DiffusionClone):
    """What DTQL and DQL-KL share: the critic, the pre-training, and the choice among candidates.

    `DiffusionClone` adds the network mu and its two uses: `clone_loss` and `denoising_loss`.
    """

    config: SharedConfig
    targets: ClassVar[tuple[str, ...]] = ('critic',)
    clone: ClassVar[dict[str, float]] = {'eta': 0.0, 'inverse_temperature': 0.0}

    @property
    def q(self) -> TwinQ:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return TwinQ((c.hidden,) * c.critic_layers, activation, c.q_layer_norm)

    @property
    def v(self) -> Value:
        c = self.config
        activation = ACTIVATIONS[c.critic_activation]
        return Value((c.hidden,) * c.critic_layers, activation, layer_norm=c.v_layer_norm)

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {'critic': (Critic(self.q, self.v), (obs, action)), **super().networks()}

    def decay(self, state: State) -> jax.Array | float:
        """The factor on all learning rates, by the number of training updates so far."""
        if not self.config.lr_decay:
            return 1.0
        return cosine_decay(state.step - self.config.pretrain_steps, self.config.steps)

    def pretrain(self, state: State, batch: Transition, draws: CloneDraws) -> tuple[State, Metrics]:
        """Clone, then critic; pi and the target rest and no learning rate decays."""
        lr = state.hparams
        state, m_mu = self.descend(state, 'mu', lr['lr'], self.clone_loss, batch, draws)
        state, m_q = self.descend(state, 'critic', lr['critic_lr'], self.critic_loss, batch)
        return state.replace(step=state.step + 1), {**m_mu, **m_q}

    def critic_loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        """L_V = E |expectile - 1[q <= V]| (q - V)^2 and L_Q = sum_k E (Q_k - y)^2, in one step.

        `q = sg min_k Q_k(s, a)` and `y = sg (r + discount mask V(s'))`, both online.
        """
        critic, h = state.params['critic'], state.hparams
        q = self.q.apply({'params': critic['q']}, batch.obs, batch.action)
        v = self.v.apply({'params': critic['v']}, batch.obs)
        next_v = self.v.apply({'params': critic['v']}, batch.next_obs)
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
        return min_q(self.q, acting['q'], obs, action)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """A sample of pi, drawn among `candidates` by a softmax over the target critic's min Q."""
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
    """The agent; `train` is one update, line by line in the order of the released code."""

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
        """Critic, clone, policy, target: each loss sees what was just updated."""
        lr, critic_lr = (state.hparams[k] * self.decay(state) for k in ('lr', 'critic_lr'))
        state, m_q = self.descend(state, 'critic', critic_lr, self.critic_loss, batch)
        state, m_mu = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)
        state = self.track(state, 'critic', state.hparams['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_mu, **m_pi}

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: alpha L_TR(a_pi) - eta E min_k Q_k(s, a_pi) - gamma E log pi(a_data | s)."""
        h = state.hparams
        pi = self.policy.at(state.params['pi'], batch.obs)
        action = self.policy.sample(pi, draws.pi_noise)
        u, noise = draws.trust_u, draws.trust_noise
        trust = self.denoising_loss(state.params['mu'], batch.obs, action, u, noise)
        q = self.q.apply({'params': state.params['critic']['q']}, batch.obs, action).min(0).mean()
        loss = h['alpha'] * trust - h['eta'] * q
        metrics = {'pi/trust_loss': trust, 'pi/q': q}
        if self.policy.has_density:
            # Safe at gamma 0 too: inside the box the likelihood is finite.
            log_prob = self.policy.log_prob(pi, batch.action).mean()
            loss -= h['gamma'] * log_prob
            metrics['pi/log_prob'] = log_prob
        return loss, {'pi/loss': loss, **metrics}

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`."""
        return self.policy.sample(self.policy.at(acting['pi'], obs), noise)


def draw(state: State, batch: Transition) -> Draws:
    """The random numbers of the update `state.step`, a function of the run's key and the step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 5)
    b, a = batch.action.shape
    return Draws(
        clone_u=jax.random.uniform(keys[0], (b,)),
        clone_noise=jax.random.normal(keys[1], (b, a)),
        pi_noise=jax.random.normal(keys[2], (b, a)),
        trust_u=jax.random.uniform(keys[3], (b,)),
        trust_noise=jax.random.normal(keys[4], (b, a)),
    )
