"""What `experiments/studies/detector.py` measures, on numbers worked by hand."""

import jax
import numpy as np
import pytest

from dtql_jax.types import Spec, Transition
from tests.helpers.scripts import names_of

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture
def detector(monkeypatch):
    return names_of('experiments/studies/detector.py', monkeypatch)


def data_of(obs, action):
    zeros = np.zeros(len(obs), np.float32)
    return Transition(obs, action, zeros, zeros, obs)


def test_split__holds_out_whole_episodes(detector):
    train, held = detector['split'](np.array([3, 4, 5, 6, 7]), 0.2)
    assert sorted([*train, *held]) == list(range(25))
    episode = np.repeat(np.arange(5), [3, 4, 5, 6, 7])
    assert len(set(episode[held])) == 2  # a fifth is one, and two are the least
    assert not set(episode[held]) & set(episode[train])


def test_distance_to_nearest__is_that_of_the_fifth_in_deviations(detector):
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(400, 2)), 10 * rng.normal(size=(400, 1))
    obs[:, 1] = 7.0  # has no deviation
    found = detector['distance_to_nearest'](data_of(obs, action))(obs[:9], action[:9] + 5)
    scale = np.array([obs[:, 0].std(), 1, action.std()])
    known = np.concatenate([obs, action], 1) / scale
    asked = np.concatenate([obs[:9], action[:9] + 5], 1) / scale
    squares = ((asked[:, None] - known) ** 2).sum(-1)
    np.testing.assert_allclose(found, np.sort(squares, 1)[:, 4], atol=1e-9)


def test_foreign__actions_stay_in_the_box(detector):
    action = np.random.default_rng(0).uniform(-2, 2, (500, 3)).astype(np.float32)
    kinds = detector['foreign'](action, 2.0)
    assert list(kinds) == ['other_state', 'noise_0.1', 'noise_0.3', 'uniform']
    assert all(np.abs(value).max() <= 2 and value.dtype == np.float32 for value in kinds.values())
    assert sorted(kinds['other_state'][:, 0]) == sorted(action[:, 0])
    off = (kinds['noise_0.1'] - action)[np.abs(action) < 1]
    assert off.std() == pytest.approx(0.2, rel=0.1)


def test_measure__by_hand(detector):
    """A detector that gives the action itself."""
    data = data_of(np.zeros((101, 1)), np.arange(101.0)[:, None])  # the quantile is 95
    sets = {name: np.array(x, np.float32)[:, None] for name, x in {
        'data': [1, 3], 'other_state': [2, 4], 'policy': [96, 0, 97],
    }.items()}  # fmt: skip
    pairs = {name: (np.zeros((len(x), 1)), x) for name, x in sets.items()}
    row = detector['measure']({'trust': lambda obs, a: a[:, 0]}, data, pairs, np.array([2, 1, 3]))
    expected = {'other_state': 0.75, 'policy': 4 / 6, 'rank_with_gain': 1.0}
    assert row['auroc']['trust'] == pytest.approx(expected)
    assert row['alarms'] == pytest.approx({'data': 0, 'other_state': 0, 'policy': 2 / 3})


def test_gaussian_clone__learns_the_deviation_at_each_state(detector):
    """The density at the mean of a Gaussian of deviation s is `1 / (sqrt(2 pi) s)`."""
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 2, (2000, 1)).astype(np.float32)
    action = (np.where(obs > 0, 0.5, -0.5) + (0.1 + 0.2 * obs) * rng.normal(size=obs.shape)) / 2
    config = detector['GaussianConfig'](hidden=16, steps=500, lr=1e-2, batch_size=128)
    clone = detector['GaussianClone'](Spec(1, 1), config)
    states = detector['trained'](clone, data_of(obs, action.astype(np.float32)), 1)
    params = jax.tree.map(lambda x: x[0], states.params['pi'])
    at = np.array([[0.0], [1.0]], np.float32)
    found = clone.surprise(params, at, np.array([[-0.25], [0.25]], np.float32))
    expected = np.log(np.sqrt(2 * np.pi) * np.array([0.05, 0.15]))
    np.testing.assert_allclose(found, expected, atol=0.3)
