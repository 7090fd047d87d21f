"""One spawned process at the other end of a pipe: the worker protocol of `EnvPool` and collections.

The parent sends requests and receives answers; an exception of the worker is an answer too. The
worker lives as long as the parent's end of the pipe is open, so none is left behind, even where the
parent is killed.

This module imports no jax: worker processes load it.
"""

import contextlib
import functools
import multiprocessing.spawn
import pathlib
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dtql_jax.rollout.patience import ENDLESS, Patience


class WorkerLost(RuntimeError):
    """A worker process died, or gave no answer in time and was killed. The message is one line."""


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
            self._process = spawn.Process(target=_begin, args=(theirs,), daemon=True)
            self._process.start()
        theirs.close()
        # Not as arguments of the process: it would print a traceback where it cannot load them.
        try:
            self.send(functools.partial(serve, *arguments))
        except BaseException:
            self.close()
            raise

    def send(self, request: Any) -> None:
        """Sends a request. If the process has died, `receive` reports it."""
        with contextlib.suppress(OSError):
            self.pipe.send(request)

    def receive(self, patience: Patience = ENDLESS) -> Any:
        """Waits for the next answer.

        Raises:
            WorkerLost: the process died or took too long; it was killed then.
            Stopped: the patience says so.
            Exception: what the worker raised, with its traceback as a note.
        """
        try:
            if not patience.wait(self.pipe.poll):
                self.close()
                raise WorkerLost(patience.hung(self._name))
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise WorkerLost(f'{self._name} died {self._end()}; {self._cure}') from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _end(self) -> str:
        """How the process ended."""
        code = self._process.exitcode
        if code is None or code >= 0:
            return f'(exit code {code}): read its output above'
        name = signal.Signals(-code).name
        return f'({name})' + (': was memory short?' if name == 'SIGKILL' else '')

    def close(self, patience_s: float = 0) -> None:
        """Closes the pipe, which ends the worker, and kills a worker that takes longer."""
        self.pipe.close()
        self._process.join(timeout=patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _begin(pipe: Connection) -> None:
    """Runs in the process: receives what to serve, and serves it."""
    with answering(pipe):
        serve = pipe.recv()
        serve.func(pipe, *serve.args)


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


def reaches_workers(argument: Any) -> bool:
    """Returns whether a worker can receive `argument`.

    It cannot where `argument` refers to a lambda or a class inside a function, or to something of a
    main module that workers do not import, such as a notebook. A script that Python reads from
    standard input can have no workers.
    """
    main = multiprocessing.spawn.get_preparation_data('')  # says how workers import main
    path, name = main.get('init_main_from_path'), main.get('init_main_from_name', '__main__')
    if path is not None and not pathlib.Path(path).is_file():
        return False
    try:
        sent = bytes(ForkingPickler.dumps(argument))
    except Exception:  # its type depends on the object
        return False
    # `python -m package` runs `package.__main__`, which workers do not import.
    return b'__main__' not in sent or path is not None or not name.endswith('__main__')


def importing_script() -> bool:
    """Whether this process is a worker that is importing the script of its parent."""
    return getattr(multiprocessing.current_process(), '_inheriting', False)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks the signals that stop a run for the processes that are started inside.

    They go to the whole process group, or to all processes of a scheduler's job. The parent alone
    decides what they mean, and ends its workers by closing their pipes. A child inherits the block
    from its first instruction on. The parent receives a signal that arrived inside when it leaves.
    """
    resource_tracker.ensure_running()  # it unblocks the signals when it starts: not inside
    stops = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
