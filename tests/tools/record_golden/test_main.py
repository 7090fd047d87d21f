"""The recorder's comparison of traces. Recording itself takes torch and a released checkout."""

import numpy as np
import pytest

from tools.record_golden.__main__ import difference


@pytest.fixture
def trace():
    return {'gym/meta/env': np.array('hopper'), 'gym/act/q': np.ones((2, 16), np.float32)}


def test_difference__says_that_traces_are_equal(trace):
    assert difference(dict(trace), trace) == 'all 2 arrays are equal to the bit'


def test_difference__tells_the_largest(trace):
    other = {**trace, 'gym/act/q': trace['gym/act/q'] + np.float32(0.5)}
    assert difference(other, trace) == '1 of 2 arrays differ, by at most 5.0e-01 (gym/act/q)'


def test_difference__tells_of_other_keys_and_types(trace):
    assert 'gym/act/q' in difference({'gym/meta/env': trace['gym/meta/env']}, trace)
    other = {**trace, 'gym/act/q': trace['gym/act/q'].astype(np.float64)}
    assert 'float64' in difference(other, trace)
