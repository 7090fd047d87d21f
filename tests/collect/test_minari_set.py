"""Episodes written as a Minari set."""

import gymnasium as gym
import minari
import numpy as np
import pytest

from dtql_jax.collect.minari_set import publish, write_set
from dtql_jax.data.load import load
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError

PENDULUM = gym.spec('Pendulum-v1')
ABOUT = {'dataset_id': 'me/own-v0', 'minari_version': minari.__version__}
EPISODE = {
    'observations': np.arange(9, dtype=np.float32).reshape(3, 3) / 9,
    'actions': np.zeros((2, 1), np.float32),
    'rewards': np.array([1.0, 2.0]),
    'terminations': np.zeros(2, bool),
    'truncations': np.array([False, True]),
    'success': np.array(-1, np.int8),
}


@pytest.fixture
def written(root):
    write_set(root / 'set', PENDULUM, iter([EPISODE, EPISODE]), ABOUT)
    return root / 'set'


def test_write_set__minari_reads_it_where_it_is_published(written):
    publish(written, 'me/own-v0')
    dataset = minari.load_dataset('me/own-v0')
    assert (dataset.total_episodes, dataset.total_steps) == (2, 4)
    np.testing.assert_array_equal(dataset[1].observations, EPISODE['observations'])
    np.testing.assert_array_equal(dataset[1].rewards, EPISODE['rewards'])
    assert not written.exists()


def test_write_set__success_is_read_back(root):
    told = [EPISODE | {'success': np.array(it, np.int8)} for it in (1, 0, 0, -1)]
    write_set(root / 'own-v0', PENDULUM, iter(told), ABOUT)
    card = load(Task('own', (str(root / 'own-v0'),), scored='success')).card
    assert card['success_rate'] == pytest.approx(1 / 3)
    assert 'success is told in 3 of 4 episodes (infos, success or is_success)' in card['notes']


def test_write_set__replaces_an_unfinished_one(written):
    write_set(written, PENDULUM, iter([EPISODE]), ABOUT)
    assert minari.MinariDataset(written / 'data').total_episodes == 1


def test_publish__never_over_another_set(written, root):
    (root / 'me' / 'own-v0' / 'data').mkdir(parents=True)
    with pytest.raises(UserError, match='cannot move the collected me/own-v0 to '):
        publish(written, 'me/own-v0')
