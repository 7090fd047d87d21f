"""Compiles the phases of a run in a thread, beside what comes before them."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from dtql_jax.training.background import Background
from dtql_jax.training.engine import Engine
from dtql_jax.training.online import Online
from dtql_jax.types import Phase


@contextlib.contextmanager
def compiled_ahead(
    engine: Engine,
    online: Online | None,
    phases: Sequence[Phase],
    told: Callable[[Phase, float], None],
) -> Iterator[Callable[[Phase], None]]:
    """Compiles phases one after the other in a thread; gives a function that waits for one.

    So networks are drawn while the first phase is compiled, and on a CPU that phase trains while
    the next is compiled. An accelerator chooses kernels by trying them, which training would
    disturb: there the first wait is for all phases.

    Args:
        engine: compiles a phase.
        online: compiles a phase in the environment.
        phases: the phases to come, in order.
        told: is called with a phase and the seconds of its compilation, when it is waited for.
    """
    left = list(phases)

    def compiled(phase: Phase) -> float:
        began = time.monotonic()
        (online if phase.online and online else engine).compile(phase)
        return time.monotonic() - began

    def begun() -> list[Background]:
        """The thread that compiles the next phase, if there is one."""
        return [Background(functools.partial(compiled, left[0]), 'the compiler')] if left else []

    threads = begun()

    def wait(phase: Phase) -> None:
        while left and (phase in left or not engine.on_cpu):
            seconds = threads.pop().result()
            told(left.pop(0), seconds)
            threads.extend(begun())

    try:
        yield wait
    finally:
        for thread in threads:  # the process must not end in the middle of a compilation
            thread.wait(threading.TIMEOUT_MAX)
