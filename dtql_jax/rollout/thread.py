"""A thread in the place of a worker process: the same interface, in this process.

The simulators of this process run in it. So whoever waits for them can stop waiting.
"""

import queue
from collections.abc import Callable
from typing import Any

from dtql_jax.rollout.patience import ENDLESS, Patience
from dtql_jax.training.background import Background
from dtql_jax.types import UserError

_CLOSED = object()


class End:
    """One end of a pipe between two threads, with the methods of a `Connection`."""

    def __init__(self, inbox: queue.SimpleQueue, outbox: queue.SimpleQueue):
        self._inbox, self._outbox = inbox, outbox
        self._next: list[Any] = []  # what `poll` has taken out of the queue

    def send(self, item: Any) -> None:
        self._outbox.put(item)

    def poll(self, timeout: float) -> bool:
        """Whether there is something to receive, after `timeout` seconds at most."""
        if not self._next:
            try:
                self._next.append(self._inbox.get(timeout=timeout))
            except queue.Empty:
                return False
        return True

    def recv(self) -> Any:
        item = self._next.pop() if self._next else self._inbox.get()
        if item is _CLOSED:
            raise EOFError
        return item

    def close(self) -> None:
        self._outbox.put(_CLOSED)


class Thread:
    """A thread that runs `serve(pipe, *arguments)`. It has the interface of `Worker`.

    Args:
        serve: answers requests until the pipe closes, and sends its exceptions.
        arguments: what it serves with.
        name: what error messages call it.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any, name: str):
        self._name = name
        there, here = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
        self.pipe, theirs = End(here, there), End(there, here)
        self._thread = Background(lambda: serve(theirs, *arguments), name)

    def send(self, request: Any) -> None:
        """Sends a request."""
        self.pipe.send(request)

    def receive(self, patience: Patience = ENDLESS) -> Any:
        """Waits for the next answer.

        Raises:
            UserError: it took too long. Nothing can end the thread, so it is left behind.
            Stopped: the patience says so.
            Exception: what `serve` sent.
        """
        if not patience.wait(self.pipe.poll):
            raise UserError(patience.hung(self._name))
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, patience_s: float = 0) -> None:
        """Closes the pipe, which ends the thread, and waits for it so long at most."""
        self.pipe.close()
        self._thread.wait(patience_s)
