"""The data of toy tasks, as training sees them."""

import numpy as np

from dtql_jax.data.load import load
from dtql_jax.tasks import toys
from dtql_jax.tasks.registry import TASKS


def test_read__gives_episodes_of_one_step():
    dataset = load(TASKS['toy-8gaussians-far'], download=False)
    rows = dataset.transitions
    np.testing.assert_array_equal(rows.action, toys.actions('8gaussians'))
    np.testing.assert_allclose(rows.reward, np.linalg.norm(rows.action, axis=-1), rtol=1e-6)
    assert not np.any(rows.obs)
    assert not np.any(rows.mask)
    assert dataset.length.tolist() == [1] * 10_000
    assert dataset.spec.max_action == np.abs(toys.actions('8gaussians')).max()
    card = dataset.card
    assert (card['source'], card['terminations'], card['notes']) == ('made', 10_000, [])
