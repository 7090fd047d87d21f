import numpy as np
import pytest

from dtql_jax.report.landscape import draw_landscape
from dtql_jax.types import UserError
from tests.helpers.run_files import assert_is_a_chart

PLACES = np.linspace(-1, 1, 5)
BOTH = (PLACES, 5 * PLACES)
POINTS = {'data': np.zeros((3, 2)), 'policy': np.ones((2, 2))}


@pytest.mark.parametrize('threshold', [1.0, 9.0])  # in the picture or nowhere
def test_draw_landscape__draws(tmp_path, threshold):
    loss = PLACES**2 + PLACES[:, None] ** 2
    out = tmp_path / 'out.png'
    assert draw_landscape(out, 'a title', BOTH, loss, (0, 3), POINTS, threshold) == out
    assert_is_a_chart(out)


def test_draw_landscape__of_a_flat_loss(tmp_path):
    flat = np.zeros((5, 5))
    assert_is_a_chart(draw_landscape(tmp_path / 'out.png', '', BOTH, flat, (0, 1), POINTS, 0.0))
    with pytest.raises(UserError, match='cannot write the chart'):
        draw_landscape(tmp_path / 'out.no', '', BOTH, flat, (0, 1), POINTS, 0.0)
