"""DQL-KL beyond its traces: the start of training, the policy's gradient, the choice, the table."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import State
from dtql_jax.agents.dql_kl import DQLKL, Config, Draws
from dtql_jax.agents.tables import dql_kl, dtql
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers.states import drawn

pytestmark = pytest.mark.usefixtures('quick_compile')


def small(max_action: float = 1.0, **settings) -> DQLKL:
    defaults = {'hidden': 8, 'candidates': 4, 'pretrain_steps': 2, 'steps': 10}
    return DQLKL(Spec(3, 2, max_action), Config(**defaults | settings))


@functools.cache
def fresh() -> State:
    """The initial state, which does not depend on `lr_decay` and `candidates`."""
    return drawn(small())


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_enter__sets_policy_and_fake_to_the_pretrained_weights():
    agent = small()
    pretrain, train = agent.phases()
    state = fresh()
    # As after some pre-training.
    params = state.params | {'mu': jax.tree.map(lambda x: 1.5 * x, state.params['mu'])}
    state = state.replace(params=params)
    assert not same(state.params['mu'], state.params['pi'])
    entered = train.enter(state)
    for name in ('pi', 'fake'):
        assert same(entered.params[name], state.params['mu'])
    for field in ('target', 'opt', 'hparams', 'step'):
        assert same(getattr(entered, field), getattr(state, field)), field
    assert same(entered.params['critic'], state.params['critic'])
    assert same(train.enter(entered).params, entered.params)
    # Copies: a donated buffer must not appear twice in a state.
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(entered.params)]
    assert len(set(pointers)) == len(pointers)
    assert pretrain.enter is None


def test_policy_loss__gradient_is_the_difference_of_the_denoisers_over_its_scale():
    """With eta 0, a fake equal to mu gives no gradient, whatever mu says."""
    agent = small()
    state = fresh()
    hparams = state.hparams | {k: jnp.float32(v) for k, v in DQLKL.clone.items()}
    state = state.replace(hparams=hparams)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 5)).astype(np.float32)
    batch = Transition(x[:, :3], x[:, 3:], x[:, 0], x[:, 0], x[:, :3])
    u, noise = jnp.full(4, 0.5), jax.random.normal(jax.random.key(1), (4, 2))
    draws = Draws(u, noise, noise, u, 0.3 * noise, u, noise)

    @jax.jit
    def gradient(state):
        def loss(params):
            params = state.params | {'pi': params}
            return agent.policy_loss(state.replace(params=params), batch, draws)[0]

        return jax.grad(loss)(state.params['pi'])

    assert all((g != 0).any() for g in jax.tree.leaves(gradient(state)))
    still = gradient(agent.enter(state))
    assert all(jnp.abs(g).max() < 1e-6 for g in jax.tree.leaves(still))


def test_train__all_four_learning_rates_decay_over_the_training_updates():
    """Two updates of pre-training and ten of training: the last has a factor of 0.024."""
    agent = small(lr_decay=True)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 10)).astype(np.float32)
    batch = Transition(x[:, :3], x[:, 3:5], x[:, 5], np.ones(4, np.float32), x[:, 7:])
    train = jax.jit(agent.phases()[-1].update)

    def moves(step):
        state = fresh().replace(step=jnp.int32(step))
        after, _ = train(state, batch)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params, state.params)
        return {name: max(jax.tree.leaves(part)) for name, part in moved.items()}

    first, last = moves(2), moves(11)
    for name, size in first.items():
        assert last[name] / size == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)), rel=0.02)


def test_act__ranks_candidates_before_it_clips():
    class Fixed(DQLKL):
        def candidates(self, acting, obs, noise):
            return jnp.array([[3.0, 0.0], [0.5, 0.5]])

        def candidate_q(self, acting, obs, action):
            return 1000.0 * (action[:, 0] > 2.5)  # only an action outside the box is good

    agent = Fixed(Spec(3, 2), small(candidates=2).config)
    acting = agent.acting(fresh())
    np.testing.assert_array_equal(agent.act(acting, jnp.ones(3), jax.random.key(0)), [1.0, 0.0])


def test_TABLE__has_the_rows_of_dtql_without_the_likelihood_term():
    assert dql_kl.TABLE.keys() == dtql.TABLE.keys()
    assert 'gamma' not in small().config.floats()
    for task, row in dql_kl.TABLE.items():
        assert {**row, 'gamma': 0} == {**dtql.TABLE[task], 'gamma': 0}, task
        Config(**row)


def test_Config__has_the_schedule_of_its_authors_only():
    with pytest.raises(UserError, match='`schedule`=vp: must be one of edm'):
        Config(schedule='vp')
