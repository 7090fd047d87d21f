"""Threads that nothing waits for."""

import _thread
import threading

import pytest

from dtql_jax.training import background
from dtql_jax.training.background import Background
from dtql_jax.types import UserError


def fail():
    raise KeyError('no')


def test_Background__has_the_result_or_the_error_of_its_function():
    assert Background(lambda: 3, 'counting').result() == 3
    failed = Background(fail, 'failing')
    with pytest.raises(KeyError):
        failed.result()
    assert failed.done()


def test_Background__wait_gives_up():
    gate = threading.Event()
    waiting = Background(gate.wait, 'waiting')
    assert not waiting.wait(0.01)
    assert not waiting.done()
    gate.set()
    assert waiting.wait(60)


def test_Background__a_thread_that_cannot_start_is_one_line(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, 'start_new_thread', refuse)
    with pytest.raises(UserError) as error:
        Background(fail, 'the evaluation')
    assert str(error.value) == (
        "the evaluation cannot start its thread: RuntimeError: can't start new thread; free "
        'memory, or raise the limits of memory and processes (`ulimit -a` shows them)'
    )


def test_Background__a_thread_that_never_begins_is_one_line(monkeypatch):
    """So ends a thread that finds no memory for its first frame: `Thread.start` would hang."""
    monkeypatch.setattr(_thread, 'start_new_thread', lambda *_: 1)
    monkeypatch.setattr(background, 'START_SECONDS', 0.01)
    with pytest.raises(UserError, match=r'^the evaluation: its thread did not start in .*; free'):
        Background(fail, 'the evaluation')
