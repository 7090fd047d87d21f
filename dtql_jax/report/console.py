"""Prints a run's messages and progress for the person who started it."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from dtql_jax.report.notebook import in_notebook
from dtql_jax.types import Lane, Phase

LINE_SECONDS = 15.0  # between two lines of progress where the output is no terminal


class Console:
    """Prints a run's events.

    On a terminal and in a notebook progress is one line that changes, elsewhere it is a line now
    and then. The time left includes evaluations, which are due at `eval_steps`.

    Args:
        stream: where to print; None means standard output.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stdout
        self.eval_steps: Sequence[int] = ()
        self._terminal = self.stream.isatty() or (stream is None and in_notebook())
        self._printed = 0.0
        self._width = 0
        self._eval_s = 0.0  # the seconds of the last evaluation

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.say(f'warning: {text}')

    def compiled(self, phase: Phase, seconds: float) -> None:
        """Says how long the compilation of a phase took."""
        self.say(f'compiled {phase.name} in {seconds:.1f} s')

    def progress(self, phase: Phase, step: int, total: int, rate: float) -> None:
        """Shows the step of `total`, the updates per second `rate`, and the time left."""
        left = duration(self.left(step, total, rate))
        text = f'{phase.name} {step:,}/{total:,}  {rate:,.1f} updates/s  {left} left'
        self.rewrite(text, last=step >= total)

    def left(self, step: int, total: int, rate: float) -> float:
        """The seconds that are left at a step, with the evaluations that are due."""
        # Progress of a step comes before its evaluation, which therefore still takes time.
        evaluations = sum(due >= step for due in self.eval_steps)
        return (total - step) / rate + evaluations * self._eval_s

    def rewrite(self, text: str, *, last: bool) -> None:
        """Replaces the last line of progress on a terminal; elsewhere prints one now and then.

        Args:
            text: the line.
            last: prints the line in any case.
        """
        now = time.monotonic()
        if not self._terminal and now - self._printed < LINE_SECONDS and not last:
            return
        self._printed = now
        if self._terminal:
            print(f'\r{text:<{self._width}}', end='', file=self.stream, flush=True)
            self._width = len(text)
        else:
            print(text, file=self.stream, flush=True)

    def evaluated(
        self, step: int, lanes: Sequence[Lane], scores: np.ndarray, seconds: float
    ) -> None:
        """Prints the scores `[S]` of an evaluation: NaN is a failed one, -inf a diverged lane."""
        self._eval_s = seconds
        by_variant: dict[str, list[str]] = {}
        for lane, score in zip(lanes, scores, strict=True):
            text = 'failed' if np.isnan(score) else 'diverged'
            text = f'{score:.1f}' if np.isfinite(score) else text
            by_variant.setdefault(lane.variant, []).append(text)
        scores_text = '; '.join(f'{k} {" ".join(v)}' for k, v in by_variant.items())
        self.say(f'evaluation at {step:,}: score {scores_text}  ({duration(seconds)})')

    def failed(self, step: int, lane: Lane, reason: str) -> None:
        """Warns of a lane whose evaluation failed."""
        self.warn(
            f'{lane.variant} seed {lane.seed}: the evaluation at {step:,} failed and has no score: '
            f'{reason}'
        )

    def diverged(self, lane: Lane, step: int) -> None:
        """Warns of a lane that diverged."""
        self.warn(
            f'{lane.variant} seed {lane.seed} diverged at update {step:,}: '
            'it keeps its last finite state and is neither trained nor evaluated any more'
        )

    def clear(self) -> None:
        """Removes the line of progress, so that something else can be printed."""
        if self._terminal and self._width:
            print('\r' + ' ' * self._width + '\r', end='', file=self.stream)
            self._width = 0


def duration(seconds: float) -> str:
    """Returns 75 seconds as '1:15 min', 7500 as '2:05 h'."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    if seconds < 3600:
        return f'{seconds // 60}:{seconds % 60:02d} min'
    return f'{seconds // 3600}:{seconds // 60 % 60:02d} h'
