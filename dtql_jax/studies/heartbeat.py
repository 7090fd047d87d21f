"""The pulse of a job: its process tells its state now and then, whatever it is doing."""

import contextlib
import dataclasses
import os
import pathlib
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from dtql_jax.report.console import Console
from dtql_jax.studies.status import HEARTBEAT_S, RUNNING, read_state, write_state
from dtql_jax.types import Lane, Phase, UserError

OFTEN_S = 2.0  # between two writings of the progress


class Heartbeat:
    """Writes the state of a job while it is open: at each `tell`, and at least every 10 seconds.

    A state that cannot be written, such as on a full disk, stops no job.

    Args:
        study_dir: the folder of the study.
        job: the name of the job.
    """

    def __init__(self, study_dir: pathlib.Path, job: str):
        self._study_dir = study_dir
        now = time.time()
        self._status = dataclasses.replace(
            read_state(study_dir, job),  # the step that it has reached
            state=RUNNING,
            reason='',
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now,
            left_s=None,
            updates_per_s=None,
        )
        self._written = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name='heartbeat', daemon=True)

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, **fields: Any) -> None:
        """Changes fields of the state, and writes them unless the last writing is fresh."""
        with self._lock:
            self._status = dataclasses.replace(self._status, **fields)
        if time.monotonic() - self._written > OFTEN_S:
            self._write()

    def end(self, state: str, reason: str = '') -> None:
        """Writes the last state."""
        self._over.set()
        self._thread.join()
        with self._lock:
            self._status = dataclasses.replace(
                self._status, state=state, reason=reason, left_s=None, updates_per_s=None
            )
        self._write()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(UserError):
            self._written = time.monotonic()
            self._status = dataclasses.replace(self._status, updated=time.time())
            write_state(self._study_dir, self._status)


class StateConsole(Console):
    """A console that tells the progress to a heartbeat too."""

    def __init__(self, heartbeat: Heartbeat):
        super().__init__()
        self._heartbeat = heartbeat

    def progress(self, phase: Phase, step: int, total: int, rate: float) -> None:
        super().progress(phase, step, total, rate)
        left = self.left(step, total, rate)
        self._heartbeat.tell(step=step, total=total, updates_per_s=rate, left_s=left)

    def evaluated(
        self, step: int, lanes: Sequence[Lane], scores: np.ndarray, seconds: float
    ) -> None:
        super().evaluated(step, lanes, scores, seconds)
        self._heartbeat.tell(step=step)
