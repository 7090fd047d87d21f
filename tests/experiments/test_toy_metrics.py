"""The numbers of the toy figures, by hand."""

import numpy as np
import pytest

from dtql_jax.tasks import toys
from tests.helpers.scripts import names_of


@pytest.fixture
def metrics(monkeypatch):
    return names_of('experiments/toy_metrics.py', monkeypatch)


def test_modes_found__needs_a_tenth_of_a_modes_share(metrics):
    """A mode of eight has an eighth of the data: a tenth of it is 1/80."""
    places = toys.SETS['8gaussians']().places
    found = metrics['modes_found']
    assert found('8gaussians', np.repeat(places, 5, axis=0)) == 8
    assert found('8gaussians', np.repeat(places[[0]], 80, axis=0)) == 1
    one_of = np.concatenate([np.repeat(places[[0]], 79, axis=0), places[[1]]])
    assert found('8gaussians', one_of) == 2
    assert found('8gaussians', np.concatenate([one_of, places[[0]]])) == 1
    assert found('8gaussians', places * 1.5) == 0  # none within 3 deviations


def test_energy_distance__by_hand(metrics):
    """Points at 0 and 1 against one at 3: 2 * 2.5 - 0.5 - 0."""
    distance = metrics['energy_distance']
    x, y = np.array([[0.0], [1.0]]), np.array([[3.0]])
    assert distance(x, y) == distance(y, x) == pytest.approx(4.5)
    assert distance(x, x) == 0


def test_measures__of_the_best_mode(metrics):
    action = np.repeat([[-10.0, 10.0]], 10, axis=0)
    row = metrics['measures']('25gaussians', 'hard', action)
    assert (row['modes'], row['within']) == (1, 1)
    assert row['reward_of_best'] == pytest.approx(1, abs=0.01)
    assert metrics['measures']('25gaussians', 'same', action)['reward_of_best'] is None
    data = metrics['measures']('25gaussians', 'far', toys.actions('25gaussians')[::20])
    assert data['modes'] == metrics['mode_count']('25gaussians') == 25
    assert data['energy'] == pytest.approx(0, abs=0.05)
    assert row['energy'] > 10


def test_references__the_data_are_near_and_uniform_draws_are_not(metrics):
    found = metrics['references']('8gaussians', 'far')
    assert found['the data']['within'] > 0.95
    assert found['the data']['energy'] < 0.1
    chance = 8 * np.pi * 0.9**2 / (2 * np.abs(toys.actions('8gaussians')).max()) ** 2
    assert found['uniform in the box']['within'] == pytest.approx(chance, abs=0.02)


def test_ranks(metrics):
    assert metrics['ranks'](np.array([0.3, 0.1, 0.2])).tolist() == [2, 0, 1]
