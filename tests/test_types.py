"""Errors of the outside world become one line; mistakes of this package stay what they are."""

from pathlib import Path

import pytest

from dtql_jax.types import (
    Stopped,
    UserError,
    lasting_path,
    machine_told,
    of_the_machine,
    outside,
    user_path,
    why,
)
from tests.helpers.permissions import obeying_permissions


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


def test_user_path__replaces_the_home_alone(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert user_path('out', '~/x') == tmp_path / 'x'
    assert user_path('out', Path('~')) == tmp_path
    assert user_path('out', 'runs/~x') == Path('runs/~x')


@pytest.mark.parametrize(
    ('path', 'text'),
    [
        (None, '`out`=None: not a path'),
        (3, '`out`=3: not a path'),
        ('', "`out`='' is empty: give a value, or leave it out"),
        (' x', "`out`=' x' has blanks at an end: remove them"),
        (
            '~nobodyhere/x',
            "`out`='~nobodyhere/x': the home folder is unknown: write the whole path",
        ),
        ('x' * 300, 'File name too long'),
        ('a\0b', 'has a control character'),
        ('a\udcffb', 'a byte that is no text'),
    ],
)
def test_user_path__refuses_what_is_no_path(path, text):
    with pytest.raises(UserError) as caught:
        user_path('out', path)
    assert text in str(caught.value)
    assert '\n' not in str(caught.value)


def test_user_path__a_folder_that_may_not_be_entered_is_one_line(tmp_path):
    (tmp_path / 'locked').mkdir(mode=0o000)
    with (
        obeying_permissions(),
        pytest.raises(UserError, match=r'Permission denied.*change its perm'),
    ):
        user_path('out', tmp_path / 'locked' / 'x')


def test_of_the_machine__a_mistake_in_a_program_is_none():
    assert of_the_machine(TypeError('x')) is None
    assert of_the_machine(RuntimeError('x')) is None
    assert of_the_machine(OSError(28, 'No space left on device', 'x')) == (
        'No space left on device (x): free space on that disk, or write to another one'
    )


def test_of_the_machine__a_working_folder_that_was_removed_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    text = 'the working folder is gone \\(No such file or directory\\): change to another one'
    with pytest.raises(UserError, match=text), machine_told():
        lasting_path('out', 'x')


def test_machine_told__errors_of_the_machine_are_the_users_and_bugs_are_not():
    with pytest.raises(UserError, match=r'^No space left on device: free'), machine_told():
        raise OSError(28, 'No space left on device')
    for error in (TypeError('x'), BrokenPipeError(32, 'Broken pipe'), Stopped()):
        with pytest.raises(type(error)), machine_told():
            raise error


def test_why__is_one_line_whatever_the_system_says():
    assert why(OSError(5, 'a\n  b', 'x\ny')) == 'a b (x y)'
    assert why(ValueError('a\n b')) == 'ValueError: a b'
    assert why(UserError('mend it')) == 'mend it'
    assert why(KeyError()) == 'KeyError'
