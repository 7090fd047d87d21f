"""How lanes are split over devices and chosen, and what they may differ in."""

import jax.numpy as jnp
import pytest

from dtql_jax.training.lanes import usable_devices, where_lane
from dtql_jax.types import UserError
from tests.helpers import toy


def test_check_hparams__an_unknown_one_is_named():
    with pytest.raises(UserError, match=r"lane 'toy': no hyper-parameter 'heat'; known: .*weight"):
        toy.engine(toy.lanes(0, at0={'heat': 1.0}))


@pytest.mark.parametrize(
    ('lanes', 'devices', 'used'), [(4, 4, 4), (5, 4, 1), (6, 4, 3), (8, 3, 2), (1, 8, 1), (7, 1, 1)]
)
def test_usable_devices__the_lanes_are_split_evenly(lanes, devices, used):
    assert usable_devices(lanes, devices) == used


def test_where_lane__takes_whole_lanes():
    ours, theirs = ({'x': jnp.full((3, 2), i), 'y': jnp.full(3, i)} for i in (1, 0))
    chosen = where_lane(jnp.array([True, False, True]), ours, theirs)
    assert chosen['x'].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert chosen['y'].tolist() == [1, 0, 1]
