"""Weights in closed form, and the bound of one Gaussian, whose errors are known."""

import numpy as np
import pytest

from dtql_jax.diffusion import EDM, SCHEDULES, VE, VP
from dtql_jax.diffusion.bound import Levels, level_density

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_level_density__of_ve_is_even_and_that_of_edm_logistic():
    sigma = np.array([0.03, 0.5, 5.0])
    np.testing.assert_allclose(level_density(VE(), sigma), 1 / np.log(500), rtol=1e-6)
    share = sigma**2 / (sigma**2 + 0.25)
    np.testing.assert_allclose(level_density(EDM(), sigma), 2 * share * (1 - share), rtol=1e-4)


def test_weights__of_the_released_losses():
    """EDM's rises as `sigma^2 / (sigma^2 + 1/4)`, VE's is the ELBO's, VP's rises, then falls."""
    edm, vp, ve = (Levels(schedule, 40, 2) for schedule in (EDM(), VP(), VE()))
    expected = edm.sigma**2 / (edm.sigma**2 + 0.25)
    np.testing.assert_allclose(edm.weights['released'], expected / expected[-1], rtol=1e-4)
    assert edm.unit == pytest.approx(1, rel=1e-3)  # A/2 nats
    np.testing.assert_allclose(ve.weights['released'], 1, rtol=1e-6)
    slope = 19.9 * np.asarray(vp_time(vp.sigma)) + 0.1
    expected = 2 * vp.sigma**2 / (vp.sigma**2 + 1) / slope
    np.testing.assert_allclose(vp.weights['released'], expected / expected.max(), rtol=1e-4)
    assert [x.falls_by('released') > 0.01 for x in (edm, vp, ve)] == [False, True, False]
    assert vp.falls_by('elbo') == 0


def vp_time(sigma):
    return (np.sqrt(0.01 + 2 * 19.9 * np.log1p(sigma**2)) - 0.1) / 19.9


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('weight', ['released', 'elbo'])
def test_loss__and_constant_are_the_mean_surprise_of_noisy_copies(name, weight):
    """With `N(0, s^2 I)` as data: `D(x) = g x` with `g = s^2 / (s^2 + sigma^2)`."""
    s2, dims = 0.04, 3
    levels = Levels(SCHEDULES[name](), 400, dims)
    square = np.array([0.0, 0.1, 2.0])[:, None]  # |a|^2
    gain = s2 / (s2 + levels.sigma**2)
    errors = (1 - gain) ** 2 * square + gain**2 * levels.sigma**2 * dims
    tau2 = levels.edge**2
    copies = s2 + tau2  # the variance of noisy copies
    surprise = dims / 2 * np.log(2 * np.pi * copies) + (square + dims * tau2) / (2 * copies)
    prior = surprise[:, -1] - dims / 2 * np.log(2 * np.pi * np.e * tau2[-1])
    found = levels.loss(errors, weight) + [levels.constant(weight, p) for p in prior]
    np.testing.assert_allclose(found, surprise[:, :-1] @ levels.mass(weight), atol=2e-3)
