"""Errors of the outside world become one line; mistakes of this package stay what they are."""

import pytest

from dtql_jax.types import Stopped, UserError, outside, why


def test_outside__says_what_failed_why_and_the_cure(tmp_path):
    with pytest.raises(UserError) as caught, outside('the map cannot be read', 'draw it again'):
        (tmp_path / 'map').read_text()
    assert str(caught.value) == (
        f'the map cannot be read: No such file or directory ({tmp_path}/map); draw it again'
    )
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize('error', [UserError('a line of its own'), Stopped()])
def test_outside__lets_our_own_errors_pass(error):
    with pytest.raises(type(error)) as caught, outside('it', 'mend it'):
        raise error
    assert caught.value is error


def test_outside__lets_an_interrupt_pass():
    with pytest.raises(KeyboardInterrupt), outside('it', 'mend it'):
        raise KeyboardInterrupt


def test_why__is_one_line():
    assert why(ValueError('two\n  lines')) == 'ValueError: two lines'
    assert why(ZeroDivisionError()) == 'ZeroDivisionError'
    assert why(OSError(28, 'No space left on device')) == 'No space left on device'
