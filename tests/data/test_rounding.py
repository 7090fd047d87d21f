"""What float32 cannot hold is refused, or said: rewards, observations, time stamps."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.data.rounding import BLOCK, Rounding
from dtql_jax.types import UserError
from tests.helpers.flat_files import ARRAYS, ROW, fields, load_file, table
from tests.helpers.minari_sets import OWN, episode, message, write

CLOCK = table(ROW)
CLOCK[:, 1] = 1.7e9 + 0.05 * ROW  # a column of time stamps
NOTE = (
    'observations[1]: 6 of 6 changes from row to row vanish in float32 (numbers up to 1.7e+09); '
    'subtract an offset or scale it'
)
HUGE = np.where(ROW == 4, 1e39, 1 + ROW)


def refused(transform='none', **changes):
    with pytest.raises(UserError) as caught:
        load(ARRAYS, arrays=fields(**changes), reward=transform)
    assert '\n' not in str(caught.value)
    assert load(ARRAYS, arrays=fields(), reward='normalize').card['notes'] == []
    return str(caught.value)


@pytest.mark.filterwarnings('error')
def test_load__rewards_beyond_float32():
    assert refused(reward=HUGE) == (
        "data, episode 1, row 1, field rewards (float32, transform 'none')[0]: inf (1 rows are not "
        'finite); float32 ends at 3.4e+38: scale the rewards down'
    )
    assert "rewards (float32, transform 'none')[0]: inf" in refused('normalize', reward=HUGE)
    steep = np.where(ROW == 4, 3e38, 1 + ROW)
    assert load(ARRAYS, arrays=fields(reward=steep)).transitions.reward.max() == np.float32(3e38)
    assert "(float32, transform 'cql_antmaze')[0]: inf" in refused('cql_antmaze', reward=steep)


def test_load__rewards_beyond_float32_in_files_and_sets(d4rl_file, root, tmp_path):
    with pytest.raises(UserError, match=r'own-v2.hdf5, episode 1, row 1, field rewards \(float32'):
        load_file(d4rl_file(rewards=HUGE))
    assert load_file(d4rl_file()).card['transitions'] == 5
    write('me/own-v0', [episode(0, 7, rewards=HUGE)])
    assert 'me/own-v0, episode 0, row 4, field rewards (float32' in message()


def test_load__rewards_that_become_equal_are_noted():
    (note,) = load(ARRAYS, arrays=fields(reward=1e9 + ROW)).card['notes']
    assert note.startswith('rewards[0]: 6 of 6 changes from row to row vanish in float32')
    (note,) = load(ARRAYS, arrays=fields(reward=1e-50 * ROW)).card['notes']
    assert note.startswith('rewards[0]: 6 of 6 changes')
    assert load(ARRAYS, arrays=fields(reward=np.float32(ROW))).card['notes'] == []


def test_load__observations_that_become_equal_are_noted(d4rl_file, root, tmp_path):
    after = CLOCK + np.array([1, 0.05, 1])
    card = load(ARRAYS, arrays=fields(obs=CLOCK, next_obs=after)).card
    assert card['notes'] == [NOTE.replace('observations', 'obs')]
    assert load_file(d4rl_file(observations=CLOCK)).card['notes'][-1] == NOTE
    path = tmp_path / 'own.npz'
    flat = {'observations': CLOCK, 'actions': table(0.5 * ROW / 7, 2), 'terminals': ROW == 6}
    np.savez(path, **flat, rewards=ROW, masks=np.ones(7))
    assert load_file(path).card['notes'][-1] == NOTE
    write('me/own-v0', [episode(0, 6, observations=CLOCK)])
    assert load(OWN).card['notes'] == [NOTE]


def test_load__a_key_of_a_dict_is_named(root):
    space = gym.spaces.Dict(
        {key: gym.spaces.Box(-np.inf, np.inf, (1,), np.float64) for key in ('clock', 'position')}
    )
    seen = {'clock': CLOCK[:, 1:2], 'position': table(ROW, 1)}
    write('me/own-v0', [episode(0, 6, observations=seen)], space)
    (note,) = load(OWN).card['notes']
    assert note.startswith('observations/clock[0]: 6 of 6 changes')
    only = dataclasses.replace(OWN, obs_keys=('position',))
    assert load(only).card['notes'] == []


@pytest.mark.parametrize(
    ('array', 'lost'),
    [
        (2**24 + np.arange(9), 1),
        (np.arange(9) + 2**24 - 20, 0),
        (2**62 + np.arange(9), 1),
        (np.arange(9, dtype=np.int16), 0),
        (np.arange(9) > 4, 0),
        (np.full(9, 1e300), 0),
        (np.linspace(0, 1, 9), 0),
        (1 + 1e-9 * np.arange(9), 1),
        (np.zeros((9, 0)), 0),
        (np.zeros((0, 3)), 0),
    ],
)
@pytest.mark.filterwarnings('error')
def test_rounding__notes(array, lost):
    rounding = Rounding()
    rounding.add('observations', array)
    assert len(rounding.notes()) == lost


def test_rounding__counts_over_blocks_and_episodes_and_passes_rare_loss():
    rounding = Rounding()
    column = np.linspace(0, 1, BLOCK + 9)
    column[7] = column[6] + 1e-12
    rounding.add('observations', column)
    rounding.add('observations', 5 + 1e-9 * np.arange(3))
    assert rounding.notes() == ()
    rounding.add('observations', 5 + 1e-9 * np.arange(BLOCK + 1))
    (note,) = rounding.notes()
    assert f' of {2 * BLOCK + 10:,} changes from row to row vanish in float32' in note


def test_notes__the_jitter_of_what_comes_to_rest_is_no_loss():
    rest = np.cumsum(np.append(0.5 ** np.arange(20), np.tile([1e-12, -1e-12], 8)))
    rounding = Rounding()
    rounding.add('observations', rest[:, None])
    assert rounding.notes() == ()
    rounding.add('actions', (1.7e9 + np.append(np.arange(50), 1e6 + np.arange(50)))[:, None])
    assert rounding.notes()[0].startswith('actions[0]: ')
