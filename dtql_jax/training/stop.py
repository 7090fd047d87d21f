"""How SIGINT and SIGTERM stop a run."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class StopFlag:
    """Whether SIGINT or SIGTERM has come. A second SIGINT raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator['StopFlag']:
        """Handles the signals inside the block. Outside the main thread it handles none."""

        def handle(number: int, _: Any) -> None:
            self.signal = signal.Signals(number)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        try:
            before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # only the main thread may set handlers
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
