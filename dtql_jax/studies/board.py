"""What the driver of a study shows while jobs run: a line for each, and a bar for all."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from dtql_jax.report.console import duration
from dtql_jax.studies.folder import Job
from dtql_jax.studies.status import DONE, RUNNING, JobStatus
from dtql_jax.studies.tables import makespan, updates

LINE_SECONDS = 30.0  # between two reports where the output is no terminal
BAR = 30  # characters


class Board:
    """Shows running jobs: lines that change on a terminal, elsewhere plain ones now and then.

    Args:
        stream: where to print; None means standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._lines = 0  # that stand below the last line that stays
        self._printed = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def show(self, lines: Sequence[str]) -> None:
        """Replaces the lines at the bottom."""
        now = time.monotonic()
        if self._terminal:
            width = os.get_terminal_size(self._stream.fileno()).columns or 80
            self._clear()
            print('\n'.join(line[: width - 1] for line in lines), file=self._stream, flush=True)
            self._lines = len(lines)
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            print('\n'.join(lines), file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._lines:
            print(f'\x1b[{self._lines}A\x1b[J', end='', file=self._stream)
            self._lines = 0


def lines_of(jobs: Sequence[Job], statuses: Sequence[JobStatus], workers: int) -> list[str]:
    """A line for each running job, and one for the study with a bar and the time left."""
    running = [status for status in statuses if status.state == RUNNING]
    longest = max((len(status.name) for status in running), default=0)
    lines = [f'{status.name:<{longest}}  {_progress(status)}' for status in running]
    share = share_done(jobs, statuses)
    filled = int(share * BAR)
    left = left_of(jobs, statuses, workers)
    done = sum(status.state == DONE for status in statuses)
    text = '' if left is None else f', about {duration(left)} left'
    bar = '#' * filled + '.' * (BAR - filled)
    return [*lines, f'[{bar}] {share:.0%}, {done}/{len(jobs)} jobs done{text}']


def share_done(jobs: Sequence[Job], statuses: Sequence[JobStatus]) -> float:
    """The share of the study's work that is done; jobs weigh as much as they were to take."""
    weights = [job.seconds or 1.0 for job in jobs]
    done = sum(weight * _share(status) for weight, status in zip(weights, statuses, strict=True))
    return done / sum(weights) if weights else 1.0


def left_of(jobs: Sequence[Job], statuses: Sequence[JobStatus], workers: int) -> float | None:
    """The seconds until the last job ends, about; None while no running job knows its own.

    The forecasts of the waiting jobs are corrected by how the running ones go.
    """
    forecast: Mapping[str, float | None] = {job.name: job.seconds for job in jobs}
    running = [s for s in statuses if s.state == RUNNING]
    known = [s for s in running if s.left_s is not None and _share(s) < 1]
    if len(known) < len(running) or not running:
        return None
    left = [s.left_s or 0.0 for s in known]
    waiting = [forecast[s.name] for s in statuses if s.state not in (RUNNING, DONE, 'failed')]
    if not waiting:
        return max(left)
    told = [(s.left_s or 0.0) / (1 - _share(s)) for s in known]
    predicted = [forecast[s.name] for s in known]
    if None in waiting or None in predicted or not sum(p or 0.0 for p in predicted):
        return None
    factor = sum(told) / sum(p or 0.0 for p in predicted)
    return makespan([*sorted(left), *(factor * (w or 0.0) for w in waiting)], workers)


def _share(status: JobStatus) -> float:
    if status.state == DONE:
        return 1.0
    return (status.step or 0) / status.total if status.total else 0.0


def _progress(status: JobStatus) -> str:
    if status.left_s is None:
        return 'starts' if status.step is None else f'starts at {updates(status)}'
    rate = '' if status.updates_per_s is None else f'{status.updates_per_s:,.1f} updates/s  '
    return f'{updates(status)}  {rate}{duration(status.left_s)} left'
