"""A thread that serves as a worker process does."""

import threading

import pytest

from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.thread import Thread
from dtql_jax.rollout.worker import answering
from dtql_jax.types import Stopped, UserError

ENDED = threading.Event()


def serve(pipe, factor):
    """Multiplies; `None` makes it wait for ever, a text makes it fail."""
    with answering(pipe):
        try:
            while True:
                request = pipe.recv()
                if request is None:
                    threading.Event().wait()
                pipe.send(factor * (request + 0))
        finally:
            ENDED.set()


def start():
    ENDED.clear()
    return Thread(serve, 2, name='a calculator')


def test_Thread__answers_in_order_and_its_own_errors():
    thread = start()
    thread.send(3)
    thread.send(4)
    assert [thread.receive(), thread.receive()] == [6, 8]
    thread.send('text')
    with pytest.raises(TypeError):
        thread.receive()
    assert ENDED.wait(60)
    thread.close()


def test_Thread_close__ends_it():
    thread = start()
    thread.close(patience_s=60)
    assert ENDED.is_set()
    thread.close()


def test_Thread_receive__gives_up_what_hangs():
    thread = start()
    thread.send(None)
    with pytest.raises(UserError, match=r'^a calculator hangs: no answer within 0.01 s'):
        thread.receive(Patience(0.01))
    with pytest.raises(Stopped):
        thread.receive(Patience(should_stop=lambda: True))
    thread.close()
