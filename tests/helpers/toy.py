"""Agents that compile in a second, and engines of them.

They have what the engine and the loop must cope with, and nothing of any algorithm: two phases, an
optimiser, a target, noise of their own, metrics whose averages are known, and a hyper-parameter
that blows one lane up at a given update.
"""

import collections
import copy
import dataclasses
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.agents import base
from dtql_jax.agents.settings import setting
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import fresh_progress
from dtql_jax.types import Lane, Phase, Spec, Transition
from tests.helpers.traces import counting

NEVER = -1.0
ROWS = 64
TRACED_ONCE = {'pretrain': 1, 'train': 1}
_FRESH = weakref.WeakKeyDictionary()  # engine -> progress, since making one compiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Small settings."""

    steps: int = 12
    pretrain_steps: int = 6
    batch_size: int = 8
    eval_every: int = 4
    lr: float = 0.01
    weight: float = 1.0
    blow_at: float = setting(NEVER, 'the update whose result is not a number', least=NEVER)


class Toy(base.Agent):
    """A linear regression from observations to noisy actions."""

    config_class = Config
    targets = ('net',)

    net = nn.Dense(2)

    def networks(self):
        return {'net': (self.net, (jnp.zeros((1, 3)),))}

    def phases(self):
        c = self.config
        return (
            Phase('pretrain', self.update, c.pretrain_steps, c.batch_size, evaluate=False),
            Phase('train', self.update, c.steps, c.batch_size),
        )

    def loss(self, state, batch):
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), batch.action.shape)
        predicted = self.net.apply({'params': state.params['net']}, batch.obs)
        loss = state.hparams['weight'] * jnp.square(predicted - batch.action - noise).mean()
        metrics = {
            'net/loss': loss,
            'net/step': state.step.astype(jnp.float32),
            'net/row': batch.reward[0],
        }
        return loss, metrics

    def update(self, state, batch):
        state, metrics = self.descend(state, 'net', state.hparams['lr'], self.loss, batch)
        state = self.track(state, 'net', 0.1)
        blown = jnp.where(state.step == state.hparams['blow_at'], jnp.nan, 0.0)
        state = state.replace(params=jax.tree.map(lambda x: x + blown, state.params))
        return state.replace(step=state.step + 1), metrics

    def acting(self, state):
        return state.params['net']

    def act(self, acting, obs, key):
        return self.spec.max_action * jnp.tanh(self.net.apply({'params': acting}, obs))


class Entering(Toy):
    """Its last phase starts from the target's weights, as a policy may start from its teacher."""

    def phases(self):
        pretrain, train = super().phases()
        return pretrain, dataclasses.replace(train, enter=self.enter)

    def enter(self, state):
        return state.replace(params=state.target)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DelayedConfig(Config):
    """Settings of `Delayed`."""

    delay: int = setting(3, 'updates per update of the actor', least=1)


class Delayed(Toy):
    """A second network, which acts, moves at every `delay`-th update only and follows the first."""

    config_class = DelayedConfig

    def networks(self):
        return {**super().networks(), 'actor': (self.net, (jnp.zeros((1, 3)),))}

    def update(self, state, batch):
        def move(state):
            return self.descend(state, 'actor', state.hparams['lr'], self.actor_loss, batch)

        due = state.step % self.config.delay == self.config.delay - 1
        state, rare = self.when(due, move, state)
        state, metrics = super().update(state, batch)
        return state, {**metrics, **rare}

    def actor_loss(self, state, batch):
        net, actor = (
            self.net.apply({'params': state.params[name]}, batch.obs) for name in ('net', 'actor')
        )
        loss = jnp.square(actor - jax.lax.stop_gradient(net)).mean()
        return loss, {'actor/loss': loss, 'actor/step': state.step.astype(jnp.float32)}

    def acting(self, state):
        return state.params['actor']


class Shared(Toy):
    """All lanes share a branch of a `cond`, and the first carry of a `scan`, in its update."""

    def update(self, state, batch):
        state, metrics = super().update(state, batch)
        first = state.step == 1
        scale = jax.lax.cond(first, lambda _: jnp.float32(0.5), lambda step: 1.0 / step, state.step)
        total, _ = jax.lax.scan(lambda sum, x: (sum + x, None), jnp.ones(()), batch.reward)
        return state, {**metrics, 'net/scale': scale, 'net/total': total}


def data(rows=ROWS):
    """Random transitions; a reward is its row's number, which tells what a batch drew."""
    rng = np.random.default_rng(0)
    obs, action, next_obs = (rng.normal(size=(rows, n)).astype(np.float32) for n in (3, 2, 3))
    return Transition(
        obs, action, np.arange(rows, dtype=np.float32), np.ones_like(obs[:, 0]), next_obs
    )


def lanes(*seeds, **by_position):
    """Lanes of these seeds; `at1={'lr': 0.1}` gives the second one hyper-parameters of its own."""
    return [Lane('toy', seed, by_position.get(f'at{i}', {})) for i, seed in enumerate(seeds)]


def engine(lanes, devices=None, agent=Toy, one_by_one=None, block=None, **settings):
    """An engine of the toy's lanes; its `traces` count how often each phase was traced."""
    traces = collections.Counter()
    toy = counting(agent(Spec(3, 2), agent.config_class(**settings)), traces)
    engine = Engine(toy, data(), lanes, devices, one_by_one, block)
    engine.traces = traces
    return engine


def changed(engine, agent=Toy, **settings):
    """The engine, already compiled, under other settings that no program depends on."""
    other = copy.copy(engine)
    other.agent = counting(agent(Spec(3, 2), agent.config_class(**settings)), engine.traces)
    return other


def start(engine, phase=0):
    """The first or second phase, and what `dispatch` needs to begin in it: a copy of its own."""
    phase = engine.agent.phases()[phase]
    if engine not in _FRESH:
        _FRESH[engine] = fresh_progress(engine)
    progress = jax.tree.map(jnp.copy, _FRESH[engine])
    return phase, progress.state, progress.sums[phase.name]


def blow(state, lane, at):
    """The state, with the lane's update number `at` going to NaN."""
    return state.replace(
        hparams={**state.hparams, 'blow_at': state.hparams['blow_at'].at[lane].set(at)}
    )


def equal(a, b):
    """Whether two trees are the same, bit for bit (NaN too)."""
    flat_a, flat_b = jax.tree.flatten(bits(a)), jax.tree.flatten(bits(b))
    return flat_a[1] == flat_b[1] and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(flat_a[0], flat_b[0], strict=True)
    )


def bits(tree):
    """A tree as numpy arrays, its typed keys as their words."""
    typed = jax.dtypes.prng_key

    def words(x):
        key = hasattr(x, 'dtype') and jax.dtypes.issubdtype(x.dtype, typed)
        return np.array(jax.device_get(jax.random.key_data(x) if key else x))

    return jax.tree.map(words, tree)


def lane(tree, *index):
    """Some lanes of a tree, in the given order."""
    return jax.tree.map(lambda x: x[np.array(index)], bits(tree))
