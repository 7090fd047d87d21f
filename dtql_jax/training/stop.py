"""Stopping on SIGINT and SIGTERM."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class StopFlag:
    """Set by SIGINT and SIGTERM; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator['StopFlag']:
        """Handles the signals inside the block, where this is the main thread."""

        def handle(number: int, _: Any) -> None:
            self.signal = signal.Signals(number)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        try:
            before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread, which alone may
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
