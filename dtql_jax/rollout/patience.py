"""How long the answer of a simulator is waited for.

This module imports no jax: worker processes load it.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from dtql_jax.training.background import Background
from dtql_jax.types import Stopped, UserError

START_SECONDS = 60.0  # at least so long to make simulators: they load their packages
POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long an answer is waited for.

    Args:
        limit_s: seconds; 0 means no limit.
        should_stop: is called now and then; True ends the waiting.
    """

    limit_s: float = 0.0
    should_stop: Callable[[], bool] = lambda: False

    def wait(self, ready: Callable[[float], bool]) -> bool:
        """Waits until `ready(seconds)`, which itself waits so long at most, returns True.

        Returns:
            False where the limit was reached first.

        Raises:
            Stopped: `should_stop` returned True.
        """
        began = time.monotonic()
        while not ready(POLL_SECONDS):
            if self.should_stop():
                raise Stopped
            if self.limit_s and time.monotonic() - began > self.limit_s:
                return False
        return True

    def call(self, function: Callable[[], Any], what: str) -> Any:
        """The result of a function that calls a simulator, within the limit of making one.

        Raises:
            UserError: the limit was reached. The function's thread is left behind.
            Stopped: `should_stop` returned True.
        """
        longer = self.for_making()
        thread = Background(function, what)
        if not longer.wait(thread.wait):
            raise UserError(longer.hung(what))
        return thread.result()

    def for_making(self) -> 'Patience':
        """The patience with simulators that are being made."""
        return dataclasses.replace(self, limit_s=self.limit_s and max(self.limit_s, START_SECONDS))

    def hung(self, what: str) -> str:
        """One line that says that the limit was reached."""
        return (
            f'{what} hangs: no answer within {self.limit_s:g} s; mend it, or set a longer '
            '`eval_timeout` (seconds for one step or reset; 0 for no limit)'
        )


ENDLESS = Patience()
USUAL = Patience(600.0)  # unless the user says otherwise
