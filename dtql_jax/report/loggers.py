"""Logs the numbers of a run to JSON lines; `sinks` has the further places.

A row is a flat dictionary: `{'step': 5000, 'seed': 0, 'variant': 'dtql', 'eval/score': 81.2}`.
The file is the record. When a run resumes, the file is cut back to the checkpoint's byte offset, so
a run that was stopped leaves the same rows as one that was not.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dtql_jax.types import UserError, outside

Row = Mapping[str, Any]

# JSON has no NaN and no infinity. These strings stand for them, and `float` reads them.
NONFINITE = ('nan', 'inf', '-inf')


class JsonlLog:
    """Appends rows to a file, one JSON object per line.

    Args:
        path: the file; it is created where it is missing.
        resume_at: the byte offset of a checkpoint, from `flush`. Later rows are dropped.
        digest: the SHA-256 of the bytes up to there, from `digest`.

    Raises:
        UserError: the file is shorter than `resume_at`, no row ends there, the bytes before it are
            not those of the digest, or the file cannot be written.
    """

    def __init__(self, path: str | Path, resume_at: int | None = None, digest: str | None = None):
        self.path = Path(path)
        with outside(f'{path} cannot be read', 'give permission, or restore the file'):
            kept = self.path.read_bytes() if self.path.exists() else b''
        if resume_at is not None:
            kept = self._kept(kept, resume_at, digest)
        self._sha = hashlib.sha256(kept)
        with self._writing():
            # Without a buffer: what is written is in the file, or the row raises.
            self._file = self.path.open('ab+', buffering=0)
            if resume_at is not None:
                self._file.truncate(resume_at)
        self._size = len(kept)

    def write(self, row: Row) -> None:
        """Appends one row, which readers see at once.

        Floats read back exactly, also those in lists. Those that are not finite become the strings
        'nan', 'inf' and '-inf'.

        Raises:
            TypeError: a value is an array. Its conversion could be a transfer from the device.
            UserError: the file cannot be written, such as on a full disk.
        """
        text = json.dumps(
            {key: plain(value) for key, value in row.items()},
            separators=(',', ':'),
            allow_nan=False,
        )
        line = text.encode() + b'\n'
        self._sha.update(line)
        self._size += len(line)
        with self._writing():
            while line:  # an almost full disk takes a part
                line = line[self._file.write(line) :]

    @property
    def digest(self) -> str:
        """The SHA-256 of all rows so far."""
        return self._sha.hexdigest()

    def flush(self) -> int:
        """Writes all rows to the disk and returns the file's length, the offset to resume at.

        Raises:
            UserError: the file was removed, replaced or changed in length by another program. The
                rows of one that was removed or replaced are written again.
        """
        with self._writing():
            os.fsync(self._file.fileno())
            ours = os.fstat(self._file.fileno())
            theirs = self.path.stat() if self.path.exists() else None
        if theirs is None:
            self._copy_to(self.path)
            raise UserError(
                f'{self.path} was removed while the run wrote to it; all its rows are in a new '
                'file now: see what removed it, and continue with `resume`'
            )
        if not os.path.samestat(ours, theirs):  # an editor saves so
            aside = self.path.with_name(f'{self.path.name}.saved')
            self._copy_to(aside)
            raise UserError(
                f'{self.path} was replaced while the run wrote to it: its own rows are in {aside}; '
                f'rename that to {self.path.name}, and continue with `resume`'
            )
        if ours.st_size != self._size:
            raise UserError(
                f'{self.path} was changed by another program while the run wrote to it: restore '
                'its rows, and continue with `resume` from the last checkpoint'
            )
        return self._size

    def close(self) -> None:
        """Closes the file. Closing twice does no harm."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _copy_to(self, path: Path) -> None:
        """Writes the rows of the open file, wherever it is, to a path."""
        with self._writing():
            self._file.seek(0)
            path.write_bytes(self._file.read())

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        """Turns the errors of a full disk or a read-only folder into one line."""
        cure = 'make room or give permission, and repeat the command (a training with `resume`)'
        return outside(f'{self.path} cannot be written', cure)

    def _kept(self, content: bytes, offset: int, digest: str | None) -> bytes:
        """The rows up to a byte offset, which a checkpoint vouches for."""
        cure = 'Restore the file, or train again with another `out`.'
        kept = content[:offset]
        if len(kept) < offset:
            raise UserError(
                f'{self.path} has {len(kept)} bytes, but the checkpoint was saved at byte '
                f'{offset}: rows were lost. {cure}'
            )
        if kept and not kept.endswith(b'\n'):
            raise UserError(
                f'{self.path} has no row that ends at byte {offset}, where the checkpoint was '
                f'saved: it was edited. {cure}'
            )
        if digest is not None and hashlib.sha256(kept).hexdigest() != digest:
            raise UserError(
                f'{self.path} was edited: its rows up to byte {offset} are not those that it had '
                f'when the checkpoint was saved. {cure}'
            )
        return kept


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Reads the rows of a file that `JsonlLog` wrote; 'nan', 'inf' and '-inf' become floats.

    The items of lists too. It leaves out a last line without its end: the writer was stopped, or is
    writing it now.

    Raises:
        UserError: the file is missing, or a line in it is not a JSON object.
    """
    path = Path(path)
    return [parse_row(path, i, line) for i, line in enumerate(whole_lines(path), start=1)]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a log but the last one that has no end; raises UserError where it is missing."""
    if not path.is_file():
        raise UserError(f'{path} does not exist: name the folder of a run.')
    return path.read_bytes().split(b'\n')[:-1]


def parse_row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The row in a line of a log; raises UserError, which names the line, where there is none."""
    try:
        # Of many rows the keys are kept once.
        row = {sys.intern(key): value for key, value in json.loads(line).items()}
    except (ValueError, AttributeError, RecursionError):
        raise UserError(
            f'{path}, line {number} is not a JSON object: mend or delete that line.'
        ) from None
    if b'nan"' in line or b'inf"' in line:
        row = {key: _restored(value) for key, value in row.items()}
    return row


def plain(value: Any) -> Any:
    """Returns `value` as one of JSON's types; a list may have any of them as its items."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _restored(value: Any) -> Any:
    """Undoes `plain`."""
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return float(value) if isinstance(value, str) and value in NONFINITE else value
