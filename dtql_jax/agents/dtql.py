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
- mu's first linear layer lacks an activation (see `nets.Denoiser`);
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
import jax.numpy as jnp

from dtql_jax import losses, nets
from dtql_jax.agents import base, mu, policies
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.types import Metrics, Params, Phase, State, Transition, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings of DTQL; defaults are the released ones. The floats are data (see `base`)."""

    pretrain_steps: int = 50_000
    lr: float = 3e-4  # of mu and pi
    critic_lr: float = 3e-4
    lr_decay: bool = False  # cosine decay of all three learning rates over `steps`
    alpha: float = 1.0  # weight of the trust region
    gamma: float = 0.0  # weight of the likelihood term; 0 leaves it out of the program
    eta: float = 1.0  # weight of Q in pi's loss
    expectile: float = 0.7
    tau: float = 0.005  # rate of the target critic
    candidates: int = 1024  # sampled actions to choose from when acting; 1 turns the choice off
    inverse_temperature: float = 1.0  # of that choice
    hidden: int = 256  # width of every hidden layer
    schedule: str = 'edm'  # of mu's noise; or vp, ve
    policy: str = 'gaussian'  # pi; or deterministic (of no use to `candidates`), implicit

    def __post_init__(self) -> None:
        super().__post_init__()
        base.check_choice('schedule', self.schedule, list(SCHEDULES))
        base.check_choice('policy', self.policy, list(policies.POLICIES))
        if self.gamma and not policies.POLICIES[self.policy].has_density:
            raise UserError(
                f'policy={self.policy}, gamma={self.gamma}: a policy without a density has no '
                'likelihood term; set gamma=0 or policy=gaussian'
            )


class Draws(NamedTuple):
    """Every random number of one update, standard: quantiles in [0, 1) and normal noise."""

    clone_u: jax.Array  # [B]
    clone_noise: jax.Array  # [B, A]
    pi_noise: jax.Array  # [B, A]
    trust_u: jax.Array  # [B]
    trust_noise: jax.Array  # [B, A]


class DTQL(mu.Agent):
    """The agent; `train` is one update, line by line in the order of the released code.

    `mu.Agent` adds the network mu and its two uses: `clone_loss` and `denoising_loss`.
    """

    config: Config
    config_class: ClassVar[type[base.Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ('critic',)
    clone: ClassVar[dict[str, float]] = {'eta': 0.0, 'inverse_temperature': 0.0}

    @property
    def q(self) -> nets.TwinQ:
        return nets.TwinQ((self.config.hidden,) * 3, nets.mish, layer_norm=True)

    @property
    def v(self) -> nets.Value:
        return nets.Value((self.config.hidden,) * 3, nets.mish)

    @property
    def policy(self) -> policies.Policy:
        return policies.POLICIES[self.config.policy](self.spec, self.config.hidden)

    @property
    def pi(self) -> nn.Module:
        return self.policy.network

    def networks(self) -> dict[str, tuple]:
        obs, action = self.examples
        return {
            'critic': (nets.Critic(self.q, self.v), (obs, action)),
            'mu': (self.mu, (action, jnp.zeros(1), obs)),
            'pi': (self.pi, self.policy.inputs(obs, action)),
        }

    def phases(self) -> tuple[Phase, ...]:
        c = self.config
        return (
            Phase('pretrain', self.pretrain, c.pretrain_steps, c.batch_size, evaluate=False),
            Phase('train', lambda s, b: self.train(s, b, draw(s, b)), c.steps, c.batch_size),
        )

    # One update.

    def pretrain(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        """Clone, then critic; pi and the target rest and no learning rate decays."""
        draws = draw(state, batch)
        lr = state.hparams
        state, m_mu = self.descend(state, 'mu', lr['lr'], self.clone_loss, batch, draws)
        state, m_q = self.descend(state, 'critic', lr['critic_lr'], self.critic_loss, batch)
        return state.replace(step=state.step + 1), {**m_mu, **m_q}

    def train(self, state: State, batch: Transition, draws: Draws) -> tuple[State, Metrics]:
        """Critic, clone, policy, target: each loss sees what was just updated."""
        lr, critic_lr = (state.hparams[k] * self.decay(state) for k in ('lr', 'critic_lr'))
        state, m_q = self.descend(state, 'critic', critic_lr, self.critic_loss, batch)
        state, m_mu = self.descend(state, 'mu', lr, self.clone_loss, batch, draws)
        state, m_pi = self.descend(state, 'pi', lr, self.policy_loss, batch, draws)
        state = self.track(state, 'critic', state.hparams['tau'])
        return state.replace(step=state.step + 1), {**m_q, **m_mu, **m_pi}

    def decay(self, state: State) -> jax.Array | float:
        """The factor on all three learning rates, by the number of training updates so far."""
        if not self.config.lr_decay:
            return 1.0
        return losses.cosine_decay(state.step - self.config.pretrain_steps, self.config.steps)

    # The losses.

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

    def policy_loss(
        self, state: State, batch: Transition, draws: Draws
    ) -> tuple[jax.Array, Metrics]:
        """pi: alpha L_TR(a_pi) - eta E min_k Q_k(s, a_pi) - gamma E log pi(a_data | s)."""
        h = state.hparams
        pi = self.policy.at(state.params['pi'], batch.obs)
        action = self.policy.sample(pi, draws.pi_noise)
        mu, u, noise = state.params['mu'], draws.trust_u, draws.trust_noise
        trust = self.denoising_loss(mu, batch.obs, action, u, noise)
        q = self.q.apply({'params': state.params['critic']['q']}, batch.obs, action).min(0).mean()
        loss = h['alpha'] * trust - h['eta'] * q
        metrics = {'pi/trust_loss': trust, 'pi/q': q}
        # Static: a weight of 0 would still multiply, and keep, a NaN.
        if self.config.gamma:
            log_prob = self.policy.log_prob(pi, batch.action).mean()
            loss -= h['gamma'] * log_prob
            metrics['pi/log_prob'] = log_prob
        return loss, {'pi/loss': loss, **metrics}

    # Acting.

    def acting(self, state: State) -> Params:
        return {
            'pi': state.params['pi'],
            'q': state.target['critic']['q'],
            'inverse_temperature': state.hparams['inverse_temperature'],
        }

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Samples of pi at one observation `[O]` from `noise` `[N, A]`: `[N, A]`."""
        return self.policy.sample(self.policy.at(acting['pi'], obs), noise)

    def candidate_q(self, acting: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """The target critic's minimum at one observation `[O]` for `action` `[N, A]`: `[N]`."""
        return base.min_q(self.q, acting['q'], obs, action)

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """A sample of pi, drawn among `candidates` by a softmax over the target critic's min Q."""
        key_noise, key_draw = jax.random.split(key)
        noise = jax.random.normal(key_noise, (self.config.candidates, self.spec.action_dim))
        action = self.candidates(acting, obs, noise)
        if self.config.candidates == 1:
            return action[0]
        return base.draw_by_q(
            key_draw,
            lambda a: self.candidate_q(acting, obs, a),
            action,
            acting['inverse_temperature'],
        )


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
