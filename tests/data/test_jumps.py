"""Resets that no flag tells of: they are cut where the limit is known, and noted."""

import dataclasses

import numpy as np
import pytest

from dtql_jax.data.jumps import jumps
from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import ARRAYS, OWN, flags, load_file, table

COUNT, LENGTH = 120, 30
TIME = np.arange(COUNT) % LENGTH  # four episodes of the limit's length
SHORT = dataclasses.replace(OWN, horizon=LENGTH)
CUT = "no row is marked as a time-out: {} episodes are cut after {} steps, the limit of the task's "


def walks(**changes):
    """Four episodes that start at 0 and take steps of about 1, as D4RL has them."""
    wiggle = np.random.default_rng(0).uniform(-0.3, 0.3, (COUNT, 3))
    fields = {
        'observations': table(TIME) + wiggle,
        'actions': table(np.full(COUNT, 0.5), 2),
        'rewards': np.ones(COUNT),
        'terminals': np.zeros(COUNT, bool),
        'timeouts': np.zeros(COUNT, bool),
    }
    return fields | changes


@pytest.mark.parametrize('timeouts', [np.zeros(COUNT, bool), None])
def test_timeouts__none_is_marked_so_that_episodes_are_cut_at_the_limit(d4rl_file, timeouts):
    data = load_file(d4rl_file(**walks(timeouts=timeouts)), SHORT)
    assert (data.card['episodes'], data.card['transitions']) == (4, COUNT - 4)
    assert data.card['timeouts'] == 4
    step = data.transitions.next_obs - data.transitions.obs
    assert (np.abs(step - 1) <= 0.6 + 1e-6).all()
    assert data.card['notes'][0].startswith(CUT.format(4, LENGTH))
    marked = load_file(d4rl_file(**walks(timeouts=TIME == LENGTH - 1)), SHORT)
    assert marked.card['fingerprint'] == data.card['fingerprint']
    assert not any('time-out' in note for note in marked.card['notes'])


def test_timeouts__arrays_are_cut_at_the_limit_too():
    arrays = load(dataclasses.replace(ARRAYS, horizon=LENGTH), arrays=walks())
    assert arrays.card['episodes'] == 4
    assert arrays.card['notes'][0].startswith(CUT.format(4, LENGTH))


def test_timeouts__terminals_that_end_every_episode_need_no_cut(d4rl_file):
    ends = walks(terminals=TIME == LENGTH - 1)
    card = load_file(d4rl_file(**ends), SHORT).card
    assert (card['episodes'], card['transitions'], card['notes']) == (4, COUNT, [])


def test_timeouts__next_observations_tell_where_unmarked_episodes_end(d4rl_file):
    obs = walks()['observations']
    after = np.concatenate([obs[1:], obs[-1:] + 1])
    after[LENGTH - 1 :: LENGTH] = obs[LENGTH - 1 :: LENGTH] + 1
    for task, changes, episodes in (
        (SHORT, {}, 4),  # longer than an episode can be
        (OWN, {'timeouts': None}, 4),
        (SHORT, {'terminals': TIME == 9}, 5),  # terminals explain it: the flags are believed
        (dataclasses.replace(OWN, horizon=COUNT), {}, 1),
    ):
        card = load_file(d4rl_file(**walks(next_observations=after) | changes), task).card
        assert (card['episodes'], card['transitions'], card['notes']) == (episodes, COUNT, [])


def test_jump_notes__resets_within_the_limit(d4rl_file):
    notes = ' '.join(load_file(d4rl_file(**walks()), OWN).card['notes'])
    assert f'3 transitions jump, the first one in row {LENGTH - 1} by ' in notes
    assert 'usual steps: is the next observation that of another episode?' in notes
    fine = load_file(d4rl_file(**walks(timeouts=TIME == LENGTH - 1)), OWN)
    assert 'jump' not in ' '.join(fine.card['notes'])


def test_jump_notes__next_observations_of_the_next_episode():
    """What a simulator that resets itself returns, or `np.roll`: marked time-outs do not help."""
    task = dataclasses.replace(ARRAYS, horizon=LENGTH)
    ends = walks(timeouts=TIME == LENGTH - 1)
    shifted = np.roll(ends['observations'], -1, axis=0)
    (note,) = load(task, arrays=ends | {'next_observations': shifted}).card['notes']
    assert note.startswith(f'4 transitions jump, the first one in row {LENGTH - 1} by ')
    after = walks(terminals=TIME == LENGTH - 1, timeouts=None)  # which the mask hides
    del after['timeouts']
    assert load(task, arrays=after | {'next_observations': shifted}).card['notes'] == []


def test_jump_notes__ogbench_files(tmp_path):
    ends = flags(59, 119, count=COUNT)  # every other end
    fields = walks(terminals=ends, masks=np.ones(COUNT), timeouts=None)
    path = tmp_path / 'own.npz'
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    notes = load_file(path).card['notes']
    assert any(note.startswith('2 transitions jump, the first one in row 29 by ') for note in notes)


def test_ends__an_ogbench_file_that_marks_no_end(tmp_path):
    fields = walks(masks=np.ones(COUNT))
    del fields['timeouts']
    path = tmp_path / 'own.npz'
    np.savez(path, **fields)
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert str(caught.value) == (
        f'{path}: the field terminals marks no row, and 120 rows are more than an episode of 100 '
        'steps; mark the last row of each trajectory'
    )
    assert load_file(path, dataclasses.replace(OWN, horizon=119)).card['episodes'] == 1


def test_jumps__columns_that_rest_do_not_count():
    rng = np.random.default_rng(0)
    steps = np.stack([np.zeros(999), rng.normal(size=999), np.where(np.arange(999) % 9, 0, 50)], 1)
    obs = np.cumsum(steps, 0).astype(np.float32)
    size = jumps(obs[:-1], obs[1:])
    assert size.max() < 5
    obs[500:, 1] += 100
    size = jumps(obs[:-1], obs[1:])
    assert np.flatnonzero(size > 15).tolist() == [499]


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'mujoco/hopper/medium-v0',
        'mujoco/hopper/expert-v0',
        'mujoco/halfcheetah/medium-v0',
        'D4RL/door/human-v2',
    ],
)
def test_jumps__recorded_sets_have_none(shared, name):
    data = load(dataclasses.replace(OWN, datasets=(name,), env_id=None, horizon=None))
    assert jumps(*(np.asarray(data.transitions[i]) for i in (0, 4))).max() < 12
