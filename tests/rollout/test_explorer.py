"""The environments of a run that goes on in them: units, episodes, seeds, and how they repeat."""

import itertools

import numpy as np
import pytest

from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.evaluate import start_seed as evaluation_seed
from dtql_jax.rollout.explorer import Explorer, start_seed
from dtql_jax.types import Spec, Transition, UserError
from tests.helpers import toy
from tests.helpers.fake_env import BadObs, BadReward, Walk

LANES = toy.lanes(3, 1)
ALL = np.ones(2, bool)
ACTION = np.float32([[0.5, 0.5], [-0.5, -0.5]])


@pytest.fixture
def pool():
    with EnvPool(Walk, 2) as pool:
        yield pool


def explorer(pool, spec=None, reward=lambda r: r, columns=None):
    agent = toy.Toy(spec or Spec(2, 2), toy.Config())
    return Explorer(agent, LANES, pool, reward, columns or {}, pytest.fail)


def nothing():
    """The rows of lanes that have none."""
    columns = (np.zeros((2, 0, *size), np.float32) for size in ((2,), (2,), (), (), (2,)))
    return Transition(*columns)


def played(made, steps, alive=ALL, record=None):
    """What is told of some steps by the same actions: up, and down."""
    told = [made.begin({} if record is None else record, nothing(), alive)]
    return told + [made.step(ACTION, alive) for _ in range(steps)]


def test_step__tells_a_chain_of_walks(pool):
    told = played(explorer(pool), 30)
    assert not told[0].made.any()
    for before, after in itertools.pairwise(told):
        assert after.made.all()
        moved = np.abs(after.next_obs - before.obs - ACTION)
        assert (moved < 0.6).all()  # the noise of a walk
        over = (after.next_obs != after.obs).any(1)
        np.testing.assert_array_equal(after.reward, after.next_obs[:, 0])
        assert ((after.mask == 1) | over).all()
    assert any((one.mask == 0).any() for one in told[1:])  # an end
    cut = [(one.next_obs != one.obs).any(1) & (one.mask == 1) for one in told[1:]]
    assert np.any(cut)  # a time-out, where the return goes on


def test_step__is_in_the_units_of_the_agent(pool):
    spec = Spec(
        2, 2, obs_mean=(1.0, 2.0), obs_std=(2.0, 4.0), action_low=(0.0, 0.0), action_high=(0.4, 1.0)
    )
    raw, ours = explorer(pool), explorer(pool, spec, lambda r: 10 * r - 1)
    (start, ends), (begin, after) = (
        (made.begin({}, nothing(), ALL), made.step(np.full((2, 2), action, np.float32), ALL))
        for made, action in ((raw, 0.2), (ours, 0.0))
    )
    np.testing.assert_allclose(begin.obs, (start.obs - [1, 2]) / [2, 4], rtol=1e-6)
    # The middle of the box is (0.2, 0.5).
    np.testing.assert_allclose(
        after.next_obs, (ends.next_obs - [1, 1.7]) / [2, 4], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(after.reward, 10 * ends.reward - 1, rtol=1e-5)


@pytest.mark.parametrize('across', [True, False])
def test_step__tells_whether_an_action_follows_the_row_before(pool, across):
    told = played(explorer(pool, columns={'column': across}), 20)
    for before, after in itertools.pairwise(told):
        goes_on = before.made & (before.next_obs == before.obs).all(1)
        np.testing.assert_array_equal(after.joined['column'], goes_on | across)


def test_step__a_lane_depends_on_its_seed_and_not_on_the_others(pool):
    together = played(explorer(pool), 20)
    alone = played(explorer(pool), 20, alive=np.array([False, True]))
    for ours, theirs in zip(alone, together, strict=True):
        np.testing.assert_array_equal(ours.obs[1], theirs.obs[1])
        np.testing.assert_array_equal(ours.reward[1], theirs.reward[1])
        assert not ours.made[0]


def test_means__are_those_of_the_episodes_since_the_last_call(pool):
    made, record = explorer(pool), {}
    played(made, 20, record=record)
    ended = [list(episodes) for episodes in record['ended']]
    for episodes, means in zip(ended, made.means(), strict=True):
        assert means['explore/episodes'] == len(episodes)
        assert means['explore/return'] == pytest.approx(np.mean([e[0] for e in episodes]))
        assert means['explore/length'] == pytest.approx(np.mean([e[1] for e in episodes]))
    assert made.means() == [{}, {}]


def test_start_seed__differs_by_seed_row_and_use():
    seeds = {start_seed(seed, row) for seed in range(20) for row in range(20)}
    assert len(seeds) == 400
    assert not seeds & {evaluation_seed(seed, row) for seed in range(20) for row in range(20)}


@pytest.mark.parametrize(
    ('make_env', 'expected'),
    [
        (BadReward, 'reward not finite: toy seed 3, step 0 in the environment'),
        (BadObs, 'observation not finite: toy seed 3, step 0 in the environment'),
    ],
)
def test_step__what_is_no_number_is_one_line(make_env, expected):
    with EnvPool(make_env, 2) as pool:
        record = {}
        with pytest.raises(UserError) as error:
            played(explorer(pool), 1, record=record)
        assert str(error.value) == expected
        assert record == {'begins': [0, 0], 'ended': [[], []]}
        made = explorer(pool)
        made.begin({}, nothing(), ALL)
        with pytest.raises(UserError, match='action not finite: toy seed 1'):
            made.step(np.float32([[0, 0], [0, np.nan]]), ALL)
