"""D4RL's hdf5: which rows become transitions, and what ends what.

A row's observation is its number, thrice; the fixture `d4rl_file` says which rows end episodes.
"""

import dataclasses

import numpy as np
import pytest

from dtql_jax.data.card import format_card
from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import adjust
from dtql_jax.types import Spec, UserError
from tests.helpers.flat_files import OWN, ROW, columns, flags, load_file, table

ANT = TASKS['antmaze-umaze-v2']


def test_read__the_next_row_is_the_successor_and_a_time_out_has_none(d4rl_file):
    data = load_file(d4rl_file())
    obs, action, reward, mask, next_obs = data.transitions[:5]
    assert obs.tolist() == table([0, 1, 3, 4, 5]).tolist()
    assert next_obs[:4].tolist() == table([1, 2, 4, 5]).tolist()
    assert next_obs[4].tolist() == obs[4].tolist()  # hidden by the mask; never another episode's
    assert reward.tolist() == [1, 2, 4, 5, 6]
    assert mask.tolist() == [1, 1, 1, 1, 0]
    assert action.tolist() == table([0.5] * 5, 2).tolist()
    assert all(array.dtype == np.float32 for array in data.transitions[:5])
    assert data.spec == Spec(obs_dim=3, action_dim=2, max_action=1.0)


def test_read__the_card_counts_the_kept_rows_and_notes_the_dropped(d4rl_file):
    path = d4rl_file()
    card = load_file(path).card
    assert (card['datasets'], card['transitions'], card['episodes']) == ([str(path)], 5, 2)
    assert (card['return']['min'], card['return']['max']) == (3, 15)
    assert (card['ends'], card['terminations'], card['timeouts']) == (1, 1, 1)
    (note,) = card['notes']
    assert note == '2 rows at the end of episodes left out: what follows them is not known'
    assert format_card(card).endswith(f'note     {note}')


def test_read__recorded_next_observations_keep_every_row(d4rl_file):
    path = d4rl_file(next_observations=table(ROW + 0.5))
    obs, _, reward, mask, next_obs = columns(path)
    assert obs == ROW.tolist()
    assert next_obs == (ROW + 0.5).tolist()
    assert reward == (1 + ROW).tolist()
    assert mask == [1, 1, 1, 1, 1, 0, 1]  # a time-out does not cut
    card = load_file(path).card
    assert (card['episodes'], card['timeouts'], card['notes']) == (3, 1, [])
    assert (card['return']['min'], card['return']['max']) == (6, 15)


def test_read__without_time_outs_a_leap_ends_an_episode(d4rl_file):
    after = table(ROW + 1)
    after[0, 1] += 9e-7  # rounding
    after[2, 1] += 2e-6  # a leap
    path = d4rl_file(timeouts=None, next_observations=after)
    card = load_file(path).card
    assert (card['episodes'], card['transitions']) == (3, 7)
    assert (card['return']['min'], card['return']['max']) == (6, 15)
    assert (card['terminations'], card['timeouts']) == (1, 1)


def test_read__without_both_an_episode_ends_at_the_horizon(d4rl_file):
    path = d4rl_file(timeouts=None)
    assert columns(path)[0] == [0, 1, 2, 3, 4, 5]
    two = dataclasses.replace(OWN, horizon=2)
    obs, _, _, mask, next_obs = columns(path, two)
    assert (obs, mask, next_obs) == ([0, 2, 4, 5], [1, 1, 1, 0], [1, 3, 5, 5])
    assert load_file(path, two).card['timeouts'] == 2


def test_read__a_terminal_in_the_last_row_is_kept(d4rl_file):
    obs, _, _, mask, next_obs = columns(d4rl_file(terminals=flags(6)))
    assert (obs, mask) == ([0, 1, 3, 4, 5, 6], [1, 1, 1, 1, 1, 0])
    assert next_obs == [1, 2, 4, 5, 6, 6]


def test_read__a_terminal_at_the_time_limit_cuts(d4rl_file):
    obs, _, _, mask, _ = columns(d4rl_file(terminals=flags(2)))
    assert (obs, mask) == ([0, 1, 2, 3, 4, 5], [1, 1, 0, 1, 1, 1])


def test_read__columns_of_width_one_and_numbers_as_flags(d4rl_file):
    plain = columns(d4rl_file())
    wide = d4rl_file(
        rewards=(1 + ROW)[:, None],
        terminals=flags(5).astype(np.float32)[:, None],
        timeouts=flags(2).astype(np.uint8),
    )
    assert columns(wide) == plain


def test_read__an_episode_whose_only_row_is_dropped(d4rl_file):
    card = load_file(d4rl_file(timeouts=flags(0, 2))).card
    assert (card['transitions'], card['episodes']) == (4, 2)  # rows 1, and 3 to 5
    assert (card['return']['min'], card['timeouts']) == (2, 1)


def test_read__the_environment_bounds_the_actions(d4rl_file):
    wide = dataclasses.replace(OWN, env_id='InvertedPendulum-v5')
    path = d4rl_file(actions=table(2.5 * np.ones(7), 2))
    assert load_file(path, wide).spec.max_action == 3
    with pytest.raises(UserError, match=r'field actions\[\d\]: -?2.5 is outside of the box'):
        load_file(path)


def test_read__reward_transforms_and_the_fingerprint_apply(d4rl_file):
    path = d4rl_file()
    assert columns(path, reward='iql_antmaze')[2] == [0, 1, 3, 4, 5]
    scaled = np.array([1, 2, 4, 5, 6]) * 1000 / (15 - 3)
    np.testing.assert_allclose(columns(path, reward='iql_locomotion')[2], scaled, rtol=1e-6)
    first = load_file(path).card['fingerprint']
    assert load_file(d4rl_file()).card['fingerprint'] == first
    assert load_file(d4rl_file(rewards=ROW)).card['fingerprint'] != first


def test_read__files_join_as_sets_of_a_task(d4rl_file, tmp_path):
    d4rl_file().rename(tmp_path / 'medium.hdf5')
    d4rl_file(rewards=-ROW).rename(tmp_path / 'expert.hdf5')
    both = tuple(str(tmp_path / f'{name}.hdf5') for name in ('medium', 'expert'))
    data = load(dataclasses.replace(OWN, datasets=both))
    assert data.transitions.reward.tolist() == [1, 2, 4, 5, 6, 0, -1, -3, -4, -5]
    assert data.card['notes'][1].startswith(f'{both[1]}: 2 rows')


# Antmazes.


def maze(d4rl_file, **changes):
    """Eight steps along x; the goal is near in rows 3 and 4, and the time is over in row 7."""
    obs = np.zeros((8, 29))
    obs[:, 0] = np.arange(8)
    fields = {
        'observations': obs,
        'actions': np.zeros((8, 8)),
        'rewards': flags(3, 4, count=8).astype(float),
        'terminals': flags(3, 4, count=8),
        'timeouts': flags(7, count=8),
    }
    return d4rl_file(**fields | changes)


def test_read__antmaze_keeps_the_recorded_goal_and_a_run_of_terminals_ends_one_episode(d4rl_file):
    path = maze(d4rl_file)
    obs, _, reward, mask, next_obs = columns(path, ANT, reward='iql_antmaze')
    assert obs == [0, 1, 2, 3, 4, 5, 6]
    assert next_obs == [1, 2, 3, 4, 4, 6, 7]
    assert mask == [1, 1, 1, 0, 0, 1, 1]
    assert reward == [-1, -1, -1, 0, 0, -1, -1]
    card = load_file(path, ANT).card
    assert (card['episodes'], card['success_rate'], card['score']) == (2, 0.5, 50)
    assert card['notes'][1:] == [ANT.caveat]


def test_read__antmaze_v0s_leaps_are_noted(d4rl_file):
    obs = np.zeros((8, 29))
    obs[6:, 1] = 4.1  # a cell has 4 metres
    assert (
        load_file(maze(d4rl_file, observations=obs), ANT)
        .card['notes'][0]
        .startswith('1 transitions leap over more than a cell: the time-outs are out of step')
    )


def test_read__mazes_that_a_file_cannot_serve_are_refused(d4rl_file):
    path = maze(d4rl_file)
    for settings in ({'goal': 'observe'}, {'goal': 'relabel'}, {'success_ends': False}):
        with pytest.raises(UserError, match=r'leave out `goal`=\w+ and `success_ends`=false'):
            load_file(path, adjust(ANT, **settings))
    with pytest.raises(UserError, match=r'weaker than .* name the task .* `env`=antmaze-umaze-v2'):
        load_file(path, TASKS['antmaze-umaze'])
    with pytest.raises(UserError, match='maze2d files do not fit pointmaze-umaze'):
        load_file(path, TASKS['pointmaze-umaze'])
