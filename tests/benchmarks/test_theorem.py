"""What `experiments/studies/theorem.py` measures, on one Gaussian and on polynomials."""

import math

import jax
import numpy as np
import pytest

from dtql_jax.diffusion import EDM
from dtql_jax.diffusion.bound import Levels
from dtql_jax.diffusion.mixture import GaussianMixture
from tests.helpers.scripts import names_of

pytestmark = pytest.mark.usefixtures('quick_compile')

one = GaussianMixture(np.zeros((1, 2)), np.array([0.2]), np.ones(1))


@pytest.fixture
def theorem(monkeypatch):
    return names_of('experiments/studies/theorem.py', monkeypatch)


def test_quadrature__is_exact_for_polynomials_of_normal_noise(theorem):
    points, weight = theorem['quadrature'](3)
    assert weight.sum() == pytest.approx(1)
    x, y = points[2].T
    moments = [(0, x), (0, x * y), (1, x**2), (1, x**2 * y**2), (3, y**4), (15, x**6)]
    for expected, values in moments:
        assert values @ weight == pytest.approx(expected, abs=1e-9)


def test_measure__of_the_elbo_and_the_ideal_denoiser(theorem):
    """The loss of one Gaussian orders actions as its density does, and bounds it."""
    levels = Levels(EDM(), 48, 2)
    places = np.linspace(-1, 1, 5)
    box = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2) + 0.01
    where = {'box': box, 'outside': 1.5 * box, 'data': 0.2 * box}
    action = np.concatenate(list(where.values()))
    with jax.enable_x64(True):
        (error,) = theorem['errors'](
            lambda x, sigma: one.denoise(x, 1.0, sigma), action, levels, (None,)
        )
    # D(x) = g x, so e = (1 - g)^2 |a|^2 + 2 g^2 sigma^2.
    gain = 0.04 / (0.04 + levels.sigma**2)
    square = (action**2).sum(1)[:, None]
    expected = (1 - gain) ** 2 * square + 2 * (gain * levels.sigma) ** 2
    np.testing.assert_allclose(error, expected, rtol=1e-9)
    noisy = theorem['noisy_surprise'](one, action, levels)
    row = theorem['measure'](one, where, noisy, levels.loss(error, 'elbo'), levels, 'elbo')
    assert row['identity_error'] < 0.02
    assert row['minimum_excess_nats'] == pytest.approx(0, abs=1e-6)
    for region in ('box', 'outside', 'data'):
        assert row[region]['rank_correlation'] > 0.99  # equal ones differ by rounding
        assert row[region]['holds_blurred'] == 1
    low, _, high = row['data']['slack_nats']
    assert -0.02 < low <= high < 0.02
    # A loss that is wrong by two nats is no bound.
    short = theorem['measure'](one, where, noisy, levels.loss(error, 'elbo') - 2, levels, 'elbo')
    assert short['box']['holds'] == 0
    assert short['box']['slack_nats'][1] == pytest.approx(row['box']['slack_nats'][1] - 2)


def test_actions_of__are_sorted_by_region(theorem):
    parts = theorem['actions_of'](one, 7)  # places -1.5, -1, ..., 1.5
    assert len(parts['box']) == 25
    assert len(parts['outside']) == 24
    assert np.abs(parts['box']).max() == pytest.approx(1)
    assert parts['data'].std() == pytest.approx(0.2, rel=0.1)
    assert math.isclose(np.abs(parts['outside']).max(), 1.5)
