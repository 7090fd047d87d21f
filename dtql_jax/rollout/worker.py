"""One spawned process at the other end of a pipe: the worker protocol of `EnvPool` and collections.

The parent sends requests and receives answers; an exception of the worker is an answer too. The
worker lives as long as the parent's end of the pipe is open, so none is left behind, even where the
parent is killed.

This module imports no jax: worker processes load it.
"""

import contextlib
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any


class Worker:
    """A spawned process that runs `serve(pipe, *arguments)`, inside `answering(pipe)`.

    Args:
        serve: a function of a module, which the process imports.
        arguments: picklable.
        name: what error messages call the process.
        cure: what they advise where the process died.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any, name: str, cure: str):
        self._name, self._cure = name, cure
        spawn = multiprocessing.get_context('spawn')  # a fork would deadlock with jax
        with signals_blocked():
            self.pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=serve, args=(theirs, *arguments), daemon=True)
            self._process.start()
        theirs.close()

    def send(self, request: Any) -> None:
        """Sends a request. If the process has died, `receive` reports it."""
        with contextlib.suppress(OSError):
            self.pipe.send(request)

    def receive(self) -> Any:
        """Waits for the next answer.

        Raises:
            RuntimeError: the process died.
            Exception: what the worker raised, with its traceback as a note.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise RuntimeError(
                f'{self._name} died (exit code {self._process.exitcode}): see above for its '
                f'output; {self._cure}'
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, patience_s: float = 0) -> None:
        """Closes the pipe, which ends the worker, and kills a worker that takes longer."""
        self.pipe.close()
        self._process.join(timeout=patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def answering(pipe: Connection) -> Iterator[None]:
    """Wraps the life of a worker: it ends when the pipe closes; any other exception is sent."""
    with contextlib.suppress(EOFError, OSError):
        try:
            yield
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            error.add_note(f'In the worker: {"".join(traceback.format_exception(error))}')
            pipe.send(error)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes started within never see Ctrl-C or SIGTERM, which go to a whole process group.

    The parent alone decides what a signal means, and ends its workers by closing their pipes. A
    blocked signal stays blocked in a child from its first instruction on. One that arrives here
    meanwhile is delivered afterwards.
    """
    resource_tracker.ensure_running()  # started later, inside, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
