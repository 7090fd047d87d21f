"""What every agent keeps to when it acts, see `test_contract`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.candidates import best_by_q, draw_by_q
from tests.helpers import contract

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module', params=contract.marked())
def subject(request, quick_compile):
    return contract.subject(request.param)


@jax.jit
def extreme(acting, factor):
    return jax.tree.map(lambda x: factor * x, acting)


def act(subject, agent=None, n=64, scale=10.0):
    """Actions of a fresh policy, its weights and observations made extreme, at many keys."""
    agent = agent or subject.agent
    run = subject.act if agent is subject.agent else jax.jit(jax.vmap(agent.act, (None, 0, 0)))
    acting = extreme(agent.acting(subject.state()), np.float32(np.sqrt(scale)))
    obs = scale * jax.random.normal(jax.random.key(1), (n, contract.OBS))
    return run(acting, obs, jax.random.split(jax.random.key(2), n))


def test_act__actions_are_finite_float32_inside_the_box(subject):
    action = act(subject)
    assert action.shape == (64, contract.ACTION)
    assert action.dtype == jnp.float32
    assert jnp.abs(action).max() <= 1
    act(subject)
    assert subject.traces['act'] == 1


@pytest.mark.parametrize('bound', [0.2, 2.0])
def test_act__other_boxes_are_kept_and_used(subject, bound):
    action = np.abs(act(subject, contract.make(subject.name, bound)))
    assert action.max() <= bound
    assert action.max() > 0.5 * bound


def test_act__one_candidate_is_enough(subject):
    if not hasattr(subject.agent.config, 'candidates'):
        pytest.skip('has no candidates')
    agent = contract.make(subject.name, candidates=1)
    assert np.isfinite(act(subject, agent)).all()

    def unasked(*args):
        raise AssertionError('Q is asked though there is nothing to choose')

    cls = type('Single', (type(agent),), {'candidate_q': unasked})
    assert contract.same(act(subject, cls(agent.spec, agent.config)), act(subject, agent))


def test_act__is_a_function_of_policy_observation_and_key(subject):
    assert contract.same(act(subject), act(subject))
    # Not extreme, where a policy may know the corners of the box only.
    assert len(np.unique(act(subject, scale=1.0), axis=0)) > 32
    acting = subject.agent.acting(subject.state())
    obs = jnp.broadcast_to(
        jax.random.normal(jax.random.key(1), (contract.OBS,)), (64, contract.OBS)
    )
    actions = subject.act(acting, obs, jax.random.split(jax.random.key(2), 64))
    different = len(np.unique(actions, axis=0))
    assert different == 1 if subject.name in contract.NO_CHANCE else different > 32


# Choosing among candidates.


THREE = jnp.array([[-0.5, 0.1], [0.0, 0.2], [0.5, 0.3]])  # candidates, told apart by the first
KEYS = 20_000


def q_of_three(action):
    return 4.0 * action[..., 0] ** 2 + 2.0 * action[..., 0]  # 0, 0, 2


def assert_frequencies(actions, probability):
    """Each of the three is drawn as often as it should, within four deviations."""
    hits = np.array([(actions[:, 0] == a).mean() for a in THREE[:, 0]])
    assert hits.sum() == pytest.approx(1)
    probability = np.asarray(probability)
    deviation = np.sqrt(probability * (1 - probability) / len(actions))
    assert (np.abs(hits - probability) < 4 * deviation + 1e-9).all(), (hits, probability)


@pytest.mark.parametrize('inverse_temperature', [0.0, 1.0, 3.0])
def test_draw_by_q__draws_by_the_softmax_of_q(inverse_temperature):
    """Handing `softmax(Q)` over as logits would draw 0.26, 0.26, 0.48 for 0.11, 0.11, 0.79."""
    draw = jax.jit(jax.vmap(lambda key: draw_by_q(key, q_of_three, THREE, inverse_temperature)))
    actions = np.asarray(draw(jax.random.split(jax.random.key(0), KEYS)))
    assert_frequencies(actions, jax.nn.softmax(inverse_temperature * q_of_three(THREE)))


def test_best_by_q__is_the_one_of_largest_q():
    many = jax.random.normal(jax.random.key(0), (12, 2))
    best = best_by_q(q_of_three, many)
    assert (best == many[np.argmax(q_of_three(many))]).all()


def test_act__chooses_candidates_as_the_method_says(subject):
    """Through `act` itself, with three fixed candidates of known Q: by softmax, or the best."""
    cls = type(subject.agent)
    if not hasattr(cls, 'candidate_q'):
        pytest.skip('does not choose among candidates by Q')
    fixed = type('Fixed', (cls,), {
        'candidates': lambda self, acting, obs, noise: THREE,
        'candidate_q': lambda self, acting, obs, action: q_of_three(action),
    })  # fmt: skip
    agent = fixed(subject.agent.spec, contract.make(subject.name, candidates=3).config)
    acting, obs = agent.acting(subject.state()), jnp.zeros(contract.OBS)
    draw = jax.jit(jax.vmap(agent.act, (None, None, 0)))
    actions = np.asarray(draw(acting, obs, jax.random.split(jax.random.key(1), KEYS)))
    hparams = subject.agent.config.floats()
    if 'inverse_temperature' in hparams:
        logits = hparams['inverse_temperature'] * q_of_three(THREE)
        assert_frequencies(actions, jax.nn.softmax(logits))
    else:
        assert_frequencies(actions, [0, 0, 1])
