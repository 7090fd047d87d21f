"""Numbers that differ in the data and no longer do in float32.

A column of time stamps near 1.7e9 is a constant in float32, whose neighbours lie 128 apart there.
"""

import math
from collections.abc import Mapping

import numpy as np

SHARE = 0.01  # of a column's changes from row to row; fewer that vanish are rounding
NOTICED = 1e-3  # of a usual change; smaller ones are jitter, as of a robot that comes to rest
BLOCK = 65536  # rows compared at a time
FIELDS = ('observations', 'actions')  # rewards are compared after their transform


class Rounding:
    """Counts the changes from row to row that vanish in float32, for each column of each field."""

    def __init__(self) -> None:
        self._changed: dict[str, np.ndarray] = {}
        self._lost: dict[str, np.ndarray] = {}
        self._sizes: dict[str, np.ndarray] = {}  # the logarithms of changes, summed
        self._lost_sizes: dict[str, np.ndarray] = {}
        self._largest: dict[str, np.ndarray] = {}

    def add(self, field: str, array: np.ndarray) -> None:
        """Counts the consecutive rows of `array` `[N, ...]`."""
        if np.can_cast(array.dtype, np.float32):  # it holds all of them
            return
        rows = array.reshape(len(array), math.prod(array.shape[1:]))
        if field not in self._changed:
            for sums in (
                self._changed, self._lost, self._sizes, self._lost_sizes, self._largest,
            ):  # fmt: skip
                sums[field] = np.zeros(rows.shape[1])
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK + 1]
            with np.errstate(over='ignore', invalid='ignore'):  # others report infinite numbers
                changed = block[1:] != block[:-1]
                small = block.astype(np.float32)
                size = np.log(np.maximum(np.abs(np.diff(block.astype(float), axis=0)), 1e-300))
            lost = changed & (small[1:] == small[:-1])
            self._changed[field] += changed.sum(0)
            self._lost[field] += lost.sum(0)
            self._sizes[field] += np.where(changed, size, 0).sum(0)
            self._lost_sizes[field] += np.where(lost, size, 0).sum(0)
            if len(block):
                np.maximum(self._largest[field], np.abs(small).max(0), out=self._largest[field])

    def fields(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Counts the observations and actions of `arrays`, and returns `arrays`."""
        for name, array in arrays.items():
            if name.startswith(FIELDS):
                self.add(name, array)
        return arrays

    def notes(self, called: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """A note for each column in which many changes vanish.

        Args:
            called: other names of fields.
        """
        return tuple(
            f'{(called or {}).get(field, field)}[{column}]: {int(lost[column]):,} of '
            f'{int(self._changed[field][column]):,} changes from row to row vanish in float32 '
            f'(numbers up to {self._largest[field][column]:.3g}); subtract an offset or scale it'
            for field, lost in self._lost.items()
            for column in self._noticeable(field)
        )

    def _noticeable(self, field: str) -> np.ndarray:
        """The columns of a field in which many changes vanish that are no smaller than usual."""
        changed, lost = self._changed[field], self._lost[field]
        with np.errstate(invalid='ignore'):  # 0 / 0 in columns without any
            ratio = np.exp(self._lost_sizes[field] / lost - self._sizes[field] / changed)
        return np.flatnonzero((lost > SHARE * changed) & (ratio > NOTICED))
