"""The rows of a run's logs, checked: what is read back is a row of a lane of this run."""

import bisect
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtql_jax.report.loggers import parse_row
from dtql_jax.types import Lane, UserError

ELAPSED = 'time/elapsed_s'
DIVERGED = 'diverged_at'
STEP = re.compile(rb'\{"step":(\d+),')

Index = Mapping[tuple[str, Any], int]  # (variant, seed) -> the index of the lane


class Metrics:
    """The rows of a `metrics.jsonl`, each parsed when it is needed."""

    def __init__(self, path: Path, lines: Sequence[bytes], index: Index):
        self.lines = lines
        self.index = index
        self.row = functools.cache(lambda i: read_row(path, i + 1, lines[i], index, 'phase'))

    def elapsed_s(self, step: int) -> float:
        """The seconds that the newest row at or before a step has; NaN where there is none."""
        rows = range(len(self.lines))  # their steps never decrease
        at = bisect.bisect_right(rows, step, key=self._step)
        return self.row(at - 1).get(ELAPSED, math.nan) if at else math.nan

    def _step(self, i: int) -> int:
        """The step of a row, which is parsed only where it does not begin as a run writes it."""
        begin = STEP.match(self.lines[i])
        return int(begin[1]) if begin else self.row(i)['step']

    def diverged(self) -> dict[int, int]:
        """The update at which a lane, by its index, was given up."""
        key = DIVERGED.encode()
        rows = [self.row(i) for i, line in enumerate(self.lines) if key in line]
        return {self.index[lane_of(row)]: row[DIVERGED] for row in rows}


def read_row(path: Path, number: int, line: bytes, index: Index, key: str) -> dict[str, Any]:
    """The row in a line of a log, which has a `key`.

    Raises:
        UserError: the line is no row of this run.
    """
    row = parse_row(path, number, line)
    lists, numbers = {}, []
    for name, value in row.items():
        if name.startswith('episode/'):
            lists[name] = value
        elif (name.startswith(('eval/', 'time/')) and name != 'eval/failed') or name == DIVERGED:
            numbers.append(value)
    sound = (
        key in row
        and type(row.get('step')) is int
        and type(row.get('seed')) is int
        and lane_of(row) in index
        and (not lists or {'episode/return', 'episode/length'} <= lists.keys())
        and all(isinstance(values, list) for values in lists.values())
        and len(set(map(len, lists.values()))) <= 1
        and set(map(type, itertools.chain(numbers, *lists.values()))) <= {int, float}
    )
    if not sound:
        raise UserError(f'{path}, line {number} is no row of this run: mend or delete that line')
    return row


def lane_index(lanes: Sequence[Lane]) -> dict[tuple[str, Any], int]:
    """The index of each lane, by variant and seed."""
    return {(lane.variant, lane.seed): i for i, lane in enumerate(lanes)}


def lane_of(row: Mapping[str, Any]) -> tuple[str, Any]:
    """The variant and seed of a row; a variant that is called 'nan' was read as a number."""
    return str(row.get('variant')), row['seed']
