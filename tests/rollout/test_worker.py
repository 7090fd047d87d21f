"""One worker process: answers, errors, death, and its end."""

import os
import signal

import pytest

from dtql_jax.rollout.worker import Worker, answering


def serve(pipe, factor):
    """Multiplies; `None` kills the process, a text makes it fail."""
    with answering(pipe):
        while True:
            request = pipe.recv()
            if request is None:
                os._exit(3)
            pipe.send(factor * (request + 0))


def ignore(pipe):
    """Never looks at its pipe."""
    while True:
        signal.pause()


def start(serve=serve, *arguments):
    return Worker(serve, *arguments, name='a calculator', cure='buy another')


def test_Worker_receive__answers_in_order_and_the_workers_own_errors():
    worker = start(serve, 2)
    worker.send(3)
    worker.send(4)
    assert [worker.receive(), worker.receive()] == [6, 8]
    worker.send('text')
    with pytest.raises(TypeError) as error:
        worker.receive()
    assert 'In the worker: Traceback' in error.value.__notes__[0]
    worker.close()


def test_Worker_receive__tells_that_the_worker_died():
    worker = start(serve, 2)
    worker.send(None)
    with pytest.raises(RuntimeError, match=r'a calculator died \(exit code 3\): .*; buy another'):
        worker.receive()
    worker.send(1)  # `receive` reports it, not this
    worker.close()


def test_Worker_close__ends_a_worker_by_its_pipe_or_kills_it():
    for worker, patience_s in ((start(serve, 2), 20), (start(ignore), 0.1)):
        worker.close(patience_s)
        assert not worker._process.is_alive()
        assert (worker._process.exitcode == 0) == (patience_s == 20)
