"""The agent of the campaign: a regression of actions on observations that compiles in a second."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

import dtql_jax
from dtql_jax import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dtql_jax.Config):
    """Settings."""

    lr: float = setting(1e-2, 'learning rate')
    pretrain_steps: int = setting(0, 'updates of the first phase')
    blow_at: float = setting(-1.0, 'the update whose result is not a number', least=-1.0)


class Line(dtql_jax.Agent):
    """Noisy linear regression in two phases, of which the second acts."""

    config_class = Config

    @property
    def pi(self) -> nn.Dense:
        """The policy."""
        return nn.Dense(self.spec.action_dim)

    def networks(self):
        obs, _ = self.examples
        return {'pi': (self.pi, (obs,))}

    def phases(self):
        c = self.config
        return (
            dtql_jax.Phase('pretrain', self.train, c.pretrain_steps, c.batch_size, evaluate=False),
            dtql_jax.Phase('train', self.train, c.steps, c.batch_size),
        )

    def train(self, state, batch):
        """One update."""
        state, metrics = self.descend(state, 'pi', state.hparams['lr'], self.loss, batch)
        blown = jnp.where(state.step == state.hparams['blow_at'], jnp.nan, 0.0)
        params = jax.tree.map(lambda x: x + blown, state.params)
        return state.replace(params=params, step=state.step + 1), metrics

    def loss(self, state, batch):
        """The mean square error to actions with noise of this step."""
        key = jax.random.fold_in(state.key, state.step)
        noise = jax.random.normal(key, batch.action.shape)
        error = self.pi.apply({'params': state.params['pi']}, batch.obs) - batch.action - noise
        loss = jnp.square(error).mean()
        return loss, {'pi/loss': loss}

    def acting(self, state):
        return state.params['pi']

    def act(self, acting, obs, key):
        return jnp.tanh(self.pi.apply({'params': acting}, obs) + jax.random.normal(key, (2,)))
