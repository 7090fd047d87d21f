"""Transforms of rewards with parameters, and several in a row. `test_load` has those of papers."""

import numpy as np
import pytest

from dtql_jax.data.rewards import REWARDS, parse_reward, transform_rewards
from dtql_jax.types import UserError

REWARD = np.array([1.0, 2.0, 3.0, 1.0])
STARTS = np.array([0, 3])  # returns 6 and 1


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('scale(0.1)', [0.1, 0.2, 0.3, 0.1]),
        ('shift(-1)', [0, 1, 2, 0]),
        ('clip(-1,2.5)', [1, 2, 2.5, 1]),
        ('clip( -1 , 2.5 )', [1, 2, 2.5, 1]),
        ('shift(-1) scale(10)', [0, 10, 20, 0]),
        ('scale(10)  shift(-1)', [9, 19, 29, 9]),
        # returns 3 and 0 after the shift
        ('shift(-1) iql_locomotion', [0, 1000 / 3, 2000 / 3, 0]),
        ('iql_antmaze clip(0,1)', [0, 1, 1, 0]),
    ],
)
def test_parse_reward__applies_names_from_left_to_right(text, expected):
    found, _ = transform_rewards(parse_reward(text), REWARD, STARTS)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize('name', REWARDS)
def test_parse_reward__a_single_name_has_the_bits_of_its_formula(name):
    returns = np.add.reduceat(REWARD, STARTS)
    found, _ = transform_rewards(parse_reward(name), REWARD, STARTS)
    expected = REWARDS[name](REWARD, returns)(REWARD)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize('text', [*REWARDS, 'shift(-1) normalize scale(3)', 'clip(0,2) shift(1)'])
def test_transform_rewards__new_rewards_become_what_those_of_the_data_did(text):
    """A transform has the constants of the data, whatever new rewards there are."""
    found, new = transform_rewards(parse_reward(text), REWARD, STARTS)
    for i in range(len(REWARD)):
        assert new(REWARD[i : i + 1]) == found[i]
    np.testing.assert_array_equal(new(REWARD[[3, 2]]), found[[3, 2]], strict=True)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('iql_antmase', "unknown reward transform 'iql_antmase', nearest: iql_antmaze (of none, "),
        ('scael(2)', "unknown reward transform 'scael(2)', nearest: scale(c)"),
        ('none(1)', "unknown reward transform 'none(1)', nearest: none"),
        ('', "unknown reward transform '', nearest: none"),
        ('scale', "reward transform 'scale': write scale(c) with a finite number for c"),
        ('scale(x)', "reward transform 'scale(x)': write scale(c)"),
        ('scale(nan)', "reward transform 'scale(nan)': write scale(c)"),
        ('clip(1)', "reward transform 'clip(1)': write clip(low,high) with a finite number for "),
        ('shift(1) clip(2,1)', "reward transform 'clip(2,1)': the first number must be below"),
    ],
)
def test_parse_reward__mistakes_are_one_line(text, expected):
    with pytest.raises(UserError) as caught:
        parse_reward(text)
    assert str(caught.value).startswith(expected)
    assert '\n' not in str(caught.value)
