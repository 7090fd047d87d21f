"""Actions outside of their box, tasks without an environment, and observations in other units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import Agent, Config
from dtql_jax.data.load import load
from dtql_jax.tasks.task import Task
from dtql_jax.types import Spec, UserError
from tests.helpers.flat_files import ARRAYS, ROW, fields, flags, table

BARE = Task('robot')
ACTION = np.stack([ROW - 1, 10 * ROW], axis=1)  # -1 to 5 and 0 to 60


def arrays(**changes):
    data = {'obs': table(ROW), 'action': ACTION, 'reward': ROW, 'terminal': flags(6)}
    return {**data, 'timeout': flags(2), **changes}


def message(task, data):
    with pytest.raises(UserError) as caught:
        load(task, arrays=data)
    assert '\n' not in str(caught.value)
    return str(caught.value)


class Echo(Agent):
    """Acts with the first numbers of what it sees."""

    def act(self, acting, obs, key):
        return obs[: self.spec.action_dim]


# With an environment, whose box is ±1.


def test_inside__clips_and_counts():
    data = fields(action=table(np.where(ROW > 4, -1.5, 0.5), 2))
    assert '`actions`=clip' in message(ARRAYS, data)
    found = load(dataclasses.replace(ARRAYS, actions='clip'), arrays=data)
    assert set(np.unique(found.transitions.action)) == {-1, 0.5}
    assert found.card['actions'] == 'clip'
    assert "2 actions clipped to ±1, actions='clip'" in found.card['notes']
    assert found.spec == Spec(3, 2, 1.0)


def test_to_own_box__stretches_the_range_of_each_number_to_the_box_of_the_environment():
    task = dataclasses.replace(ARRAYS, actions='rescale')
    found = load(task, arrays=fields(action=np.stack([ROW, 5 - ROW], axis=1)))
    action = found.transitions.action
    assert (action.min(0).tolist(), action.max(0).tolist()) == ([-1, -1], [1, 1])
    np.testing.assert_allclose(action[:, 0], -action[:, 1], atol=1e-6)
    assert found.spec == Spec(3, 2, 1.0)  # the environment's units count
    assert any('actions rescaled from their range [0 -1] to' in n for n in found.card['notes'])


# Without one.


def test_to_own_box__policies_answer_in_the_units_of_the_data():
    found = load(BARE, arrays=arrays())
    spec, action = found.spec, found.transitions.action
    assert (spec.action_low, spec.action_high) == ((-1, 0), (5, 60))
    assert (np.abs(action).max(), spec.max_action) == (1, 1)
    act = Echo(spec, Config()).behave
    back = np.stack([act({}, np.append(row, 0), jax.random.key(0)) for row in action])
    np.testing.assert_allclose(back, np.delete(ACTION, 2, axis=0), atol=1e-5)
    # Never outside, whatever rounding does.
    edge = act({}, jnp.float32([1.0000001, -1.0000001, 0]), jax.random.key(0))
    assert edge.tolist() == [5, 0]


def test_to_own_box__a_given_box_refuses_clips_or_is_widened():
    task = dataclasses.replace(BARE, action_box=((-1, 0), (4, 100)))
    assert 'field actions[0]: 5 is outside of the box [-1, 4], the worst of 1 rows' in message(
        task, arrays()
    )
    clipped = load(dataclasses.replace(task, actions='clip'), arrays=arrays())
    assert (clipped.spec.action_low, clipped.spec.action_high) == ((-1, 0), (4, 100))
    assert clipped.card['action_range'] == {'min': -1, 'max': 60}  # as in the data
    assert "1 actions clipped to [-1 0] to [4 100], actions='clip'" in clipped.card['notes']
    own = load(dataclasses.replace(task, actions='rescale'), arrays=arrays())
    assert own.spec.action_high == (5, 60)
    same = load(dataclasses.replace(BARE, action_box=(-100, 100)), arrays=arrays())
    assert same.spec.action_low == (-100, -100)


@pytest.mark.parametrize('box', [(1, 0), (0, np.inf), ((0, 0, 0), 1), 'ab', (1,)])
def test_to_own_box__what_is_no_box(box):
    text = message(dataclasses.replace(BARE, action_box=box), arrays())
    assert 'is no box of 2 numbers; give (low, high)' in text


def test_to_own_box__a_number_that_never_changes_is_the_middle():
    found = load(BARE, arrays=arrays(action=np.stack([ROW, np.full(7, 3.0)], axis=1)))
    assert not found.transitions.action[:, 1].any()
    assert (found.spec.action_low[1], found.spec.action_high[1]) == (2, 4)


def test_Task__settings_that_exclude_each_other():
    with pytest.raises(UserError, match='use one of them'):
        Task('a', actions='rescale', rescale_actions=True)
    with pytest.raises(UserError, match="actions='drop': use one of refuse, clip, rescale"):
        Task('a', actions='drop')
    with pytest.raises(UserError, match='the environment has the box'):
        Task('a', env_id='Hopper-v5', action_box=(-1, 1))


# Observations.


def test_load__normalises_observations_and_says_how():
    obs = np.stack([ROW, 100 + 10 * ROW, np.full(7, 5.0)], axis=1)
    raw = load(BARE, arrays=arrays(obs=obs))
    found = load(dataclasses.replace(BARE, normalize_obs=True), arrays=arrays(obs=obs))
    kept = raw.transitions.obs.astype(np.float64)
    np.testing.assert_allclose(found.spec.obs_mean, kept.mean(0))
    np.testing.assert_allclose(found.spec.obs_std[:2], kept.std(0)[:2] + 1e-3)
    assert found.spec.obs_std[2] == 1  # it never changes
    for name in ('obs', 'next_obs'):
        before, after = (getattr(data.transitions, name) for data in (raw, found))
        expected = (before - found.spec.obs_mean) / found.spec.obs_std
        np.testing.assert_allclose(after, expected, atol=1e-5)
    np.testing.assert_array_equal(found.transitions.reward, raw.transitions.reward)
    # The card tells of the data as they are.
    assert found.card['fingerprint'] == raw.card['fingerprint']
    assert found.card['obs_range'] == raw.card['obs_range']
    assert (found.card['normalize_obs'], raw.card['normalize_obs']) == (True, False)


def test_behave__normalises_what_it_is_given():
    found = load(dataclasses.replace(BARE, normalize_obs=True), arrays=arrays())
    spec = dataclasses.replace(found.spec, action_low=(), action_high=())
    raw = load(BARE, arrays=arrays()).transitions.obs[3]
    seen = Echo(spec, Config()).behave({}, raw, jax.random.key(0))
    np.testing.assert_allclose(seen, found.transitions.obs[3][:2], atol=1e-6)


def test_behave__is_act_where_there_are_no_other_units():
    agent = Echo(Spec(3, 2), Config())
    programs = [
        jax.make_jaxpr(function)({}, jnp.zeros(3), jax.random.key(0))
        for function in (agent.act, agent.behave)
    ]
    assert str(programs[0]) == str(programs[1])


def test_Spec__is_the_same_from_a_file():
    spec = Spec(1, 1, obs_mean=(0.1,), obs_std=(2.0,))
    assert Spec(**{**dataclasses.asdict(spec), 'obs_mean': [0.1], 'obs_std': [2.0]}) == spec
    assert hash(spec) == hash(dataclasses.replace(spec))


# Episodes by name.


def test_read_arrays__episodes_end_where_their_name_changes():
    names = np.array(['a', 'a', 'b', 'b', 'b', 'c', 'c'])
    found = load(BARE, arrays=arrays(timeout=flags(), episode=names))
    assert found.length.tolist() == [1, 2, 2]
    del (data := arrays(episode=names))['timeout']
    assert load(BARE, arrays=data).length.tolist() == [1, 2, 2]
    assert 'field episode has type float64 and shape (3,); give the number or name' in message(
        BARE, arrays(episode=np.zeros(3))
    )


@pytest.mark.parametrize(('task', 'text'), [
    (dataclasses.replace(BARE, rescale_actions=True), 'there is no simulator: leave it out'),
    (dataclasses.replace(BARE, actions='clip'), "actions='clip' needs a box to clip to"),
])  # fmt: skip
def test_to_own_box__refuses_what_would_do_nothing(task, text):
    assert text in message(task, arrays())
