"""An evaluation in a thread of its own, beside the training or instead of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dtql_jax.training.background import Background
from dtql_jax.types import Params

Rows = dict[int, dict[str, Any]]
# (snapshot [S, ...], lanes to play) -> a row for each of these lanes, with 'eval/score', or with
# 'eval/failed' where its evaluation failed.
Evaluate = Callable[[Params, list[int]], Rows]

# After a second Ctrl-C, an evaluation that has seen the first has so long to leave the accelerator.
LEAVE_SECONDS = 5.0


class Evaluation:
    """Begins to play a snapshot of the policies.

    Args:
        evaluate: plays the episodes.
        snapshot: what acts, of all lanes `[S, ...]`.
        lanes: the lanes to play.

    Raises:
        UserError: its thread cannot start.
    """

    def __init__(self, evaluate: Evaluate, snapshot: Params, lanes: list[int]):
        def play() -> tuple[Rows, float]:
            return evaluate(snapshot, lanes), time.monotonic() - began

        began = time.monotonic()
        self._thread = Background(play, 'the evaluation')
        self.done = self._thread.done

    def result(self) -> tuple[Rows, float]:
        """Waits for the end; returns the rows and the seconds, or raises what `evaluate` raised."""
        return self._thread.result()

    def leave(self) -> bool:
        """Waits a little for the end, whatever it is; returns whether it came."""
        return self._thread.wait(LEAVE_SECONDS)


def scores_of(rows: Rows, lanes: Sequence[Any]) -> np.ndarray:
    """The scores `[S]`: -inf of lanes that were not played, NaN where an evaluation failed."""
    scores = np.full(len(lanes), -np.inf, np.float32)
    for i, row in rows.items():
        scores[i] = row.get('eval/score', np.nan)
    return scores
