"""A function in a thread of its own, which the end of the process does not wait for.

This module imports no jax: worker processes load it.
"""

import _thread
import threading
from collections.abc import Callable
from typing import Any

from dtql_jax.types import UserError, outside

START_SECONDS = 60.0


class Background:
    """Runs `function()` in a thread of its own.

    It is no `threading.Thread`. The interpreter would wait at its exit for such a thread, or for
    ever where a simulator hangs in it. And `Thread.start` waits for ever where memory is too short
    for the new thread to begin.

    Args:
        function: what to run.
        what: the name of the thread in messages, such as 'the evaluation'.

    Raises:
        UserError: the thread cannot start.
    """

    def __init__(self, function: Callable[[], Any], what: str):
        self._function = function
        self._began, self._ended = threading.Event(), threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        cure = 'free memory, or raise the limits of memory and processes (`ulimit -a` shows them)'
        with outside(f'{what} cannot start its thread', cure):
            _thread.start_new_thread(self._run, ())
        if not self._began.wait(START_SECONDS):
            raise UserError(f'{what}: its thread did not start in {START_SECONDS:.0f} s; {cure}')

    def _run(self) -> None:
        self._began.set()
        try:
            self._value = self._function()
        except BaseException as error:  # whatever it is, `result` raises it
            self._error = error
        finally:
            self._ended.set()

    def done(self) -> bool:
        """Whether the function has ended."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the function, so long at most; returns whether it has ended."""
        return self._ended.wait(seconds)

    def result(self) -> Any:
        """Waits for the end of the function; returns its result or raises its error."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value
