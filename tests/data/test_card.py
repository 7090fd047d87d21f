"""The card's numbers, worked by hand."""

import dataclasses
import json

import pytest

from dtql_jax.data.card import format_card
from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS
from dtql_jax.tasks.task import Task, adjust
from tests.helpers.minari_sets import MAZE, episode, walk, write

OWN = Task('own', ('me/own-v0',), score_range=(1.0, 6.0))


def test_make_card__returns_counts_and_ranges(root):
    write('me/own-v0', [episode(0, 3), episode(10, 1, end='terminated')])
    card = load(OWN, reward='iql_antmaze').card
    assert (card['transitions'], card['episodes']) == (4, 2)
    assert card['return'] == {'mean': 3.5, 'std': 2.5, 'min': 1.0, 'max': 6.0}
    assert card['score'] == 50.0
    assert card['success_rate'] is None
    assert card['reward_counts'] == {'1': 2, '2': 1, '3': 1}  # before the transform
    assert (card['ends'], card['terminations'], card['timeouts']) == (1, 1, 1)
    assert card['obs_range'] == {'min': 0.0, 'max': 10.0}
    assert card['action_range'] == {'min': 0.5, 'max': 0.5}
    assert json.loads(json.dumps(card)) == card


@pytest.fixture
def maze(root):
    """Arrives at step 3 and stays; arrives at step 1 and leaves; never."""
    far, near = (1, 1), (-1, -1)
    paths = [[far, far, far, near, near], [far, near, far, far, far], [far] * 5]
    write('me/maze-v0', [walk(path, far) for path in paths], MAZE)
    return dataclasses.replace(TASKS['pointmaze-umaze'], datasets=('me/maze-v0',))


def test_make_card__success_counts_once_where_it_ends_the_episode(maze):
    card = load(maze).card
    assert card['return']['mean'] == pytest.approx(2 / 3)
    assert card['score'] == pytest.approx(200 / 3)
    assert card['success_rate'] == pytest.approx(2 / 3)
    assert (card['ends'], card['reward_counts']) == (3, {'0': 9, '1': 3})


def test_make_card__success_counts_every_step_where_it_ends_nothing(maze):
    card = load(adjust(maze, success_ends=False)).card
    assert card['return']['mean'] == 1.0  # 2, 1 and 0 steps at the goal
    assert (card['score'], card['ends']) == (None, 0)
    assert card['success_rate'] == pytest.approx(2 / 3)


def test_make_card__nothing_counts_after_the_horizon(maze):
    card = load(dataclasses.replace(maze, horizon=2)).card
    assert card['success_rate'] == pytest.approx(1 / 3)


def test_make_card__fingerprint_follows_data_and_meaning(maze):
    same, other = load(maze).card['fingerprint'], load(maze).card['fingerprint']
    assert same == other
    changed = [load(maze, reward='iql_antmaze'), load(adjust(maze, success_ends=False))]
    changed.append(load(dataclasses.replace(maze, horizon=2)))
    assert len({same, *(data.card['fingerprint'] for data in changed)}) == 4


def test_format_card__names_counts_and_transform(maze):
    text = format_card(load(maze).card)
    assert text.splitlines()[0] == 'dataset card: pointmaze-umaze'
    assert '12 transitions, 3 episodes' in text
    assert '0: 9, 1: 3 (transform: none)' in text


def test_make_card__shared_hopper_scores_as_documented(shared):
    card = load(TASKS['hopper-medium']).card
    assert (card['transitions'], card['episodes']) == (300_000, 705)
    assert card['return']['mean'] == pytest.approx(1554, abs=1)
    assert card['score'] == pytest.approx(48, abs=0.5)
    assert card['reward_counts'] is None
