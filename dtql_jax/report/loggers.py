"""Logs the numbers of a run: always to JSON lines, and to wandb or TensorBoard on demand.

A row is a flat dictionary: `{'step': 5000, 'seed': 0, 'variant': 'dtql', 'eval/score': 81.2}`.
The file is the record. When a run resumes, the file is cut back to the checkpoint's byte offset, so
a run that was stopped leaves the same rows as one that was not. The other sinks may repeat the rows
between the last checkpoint and the stop.
"""

import importlib
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from dtql_jax.types import UserError

Row = Mapping[str, Any]

# JSON has no NaN and no infinity. These strings stand for them, and `float` reads them.
NONFINITE = ('nan', 'inf', '-inf')


class JsonlLog:
    """Appends rows to a file, one JSON object per line.

    Args:
        path: the file; it is created where it is missing.
        resume_at: the byte offset of a checkpoint, from `flush`. Later rows are dropped.

    Raises:
        UserError: the file is shorter than `resume_at`, or no row ends there.
    """

    def __init__(self, path: str | Path, resume_at: int | None = None):
        self.path = Path(path)
        if resume_at is not None:
            self._cut(resume_at)
        self._file = self.path.open('ab')

    def write(self, row: Row) -> None:
        """Appends one row, which readers see at once.

        Floats read back exactly. Those that are not finite become the strings 'nan', 'inf' and
        '-inf'.

        Raises:
            TypeError: a value is an array. Its conversion could be a transfer from the device.
        """
        line = json.dumps(
            {key: _plain(value) for key, value in row.items()},
            separators=(',', ':'),
            allow_nan=False,
        )
        self._file.write(line.encode() + b'\n')
        self._file.flush()

    def flush(self) -> int:
        """Writes all rows to the disk and returns the file's length, the offset to resume at."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

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

    def _cut(self, offset: int) -> None:
        """Drops all rows after a byte offset."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < offset:
            raise UserError(
                f'{self.path} has {size} bytes, but the checkpoint was saved at byte {offset}: '
                'rows were lost. Restore the file, or train again with another `out`.'
            )
        if size == 0:
            return
        with self.path.open('r+b') as file:
            if offset > 0:
                file.seek(offset - 1)
                if file.read(1) != b'\n':
                    raise UserError(
                        f'{self.path} has no row that ends at byte {offset}, where the checkpoint '
                        'was saved: it was edited. Restore it, or train again with another `out`.'
                    )
            file.truncate(offset)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Reads the rows of a file that `JsonlLog` wrote; 'nan', 'inf' and '-inf' become floats.

    It leaves out a last line without its end: the writer was stopped, or is writing it now.

    Raises:
        UserError: the file is missing, or a line in it is not a JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} does not exist: name the folder of a run.')
    rows = []
    complete = path.read_bytes().split(b'\n')[:-1]
    for number, line in enumerate(complete, start=1):
        try:
            rows.append({key: _restored(value) for key, value in json.loads(line).items()})
        except (ValueError, AttributeError):
            raise UserError(
                f'{path}, line {number} is not a JSON object: mend or delete that line.'
            ) from None
    return rows


class Sink(Protocol):
    """A further place for rows, beside the file."""

    module: ClassVar[str]  # the package that it needs

    def __init__(self, run_dir: Path, config: Mapping[str, Any]): ...

    def write(self, step: int, row: Row) -> None:
        """Logs the numbers of a row at `step`."""

    def close(self) -> None:
        """Waits until everything is written."""


class TensorBoardSink:
    """Writes event files to `run_dir/tensorboard`, one TensorBoard run per variant and seed."""

    module: ClassVar[str] = 'tensorboard.summary'

    def __init__(self, run_dir: Path, config: Mapping[str, Any]):
        del config  # TensorBoard has no place for it
        self._open = _require(self.module, 'tensorboard').Writer
        self._dir = run_dir / 'tensorboard'
        self._writers: dict[str, Any] = {}

    def write(self, step: int, row: Row) -> None:
        lane = _lane(row)
        if lane not in self._writers:
            self._writers[lane] = self._open(str(self._dir / lane))
        for key, value in _numbers(row).items():
            self._writers[lane].add_scalar(key, value, step)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class WandbSink:
    """Writes one Weights & Biases run, also across resumes; its keys end in variant and seed."""

    module: ClassVar[str] = 'wandb'

    def __init__(self, run_dir: Path, config: Mapping[str, Any]):
        wandb = _require(self.module, 'wandb')
        id_file = run_dir / 'wandb_id'
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex)
        self._run = wandb.init(
            project='dtql_jax',
            name=run_dir.name,
            id=id_file.read_text(),
            dir=str(run_dir),
            config=dict(config),
            resume='allow',
        )
        # wandb drops a row whose step is lower than the last one's. Seeds are logged in turn.
        self._run.define_metric('*', step_metric='update')

    def write(self, step: int, row: Row) -> None:
        lane = _lane(row)
        numbers = {f'{key}/{lane}': value for key, value in _numbers(row).items()}
        self._run.log({'update': step, **numbers})

    def close(self) -> None:
        self._run.finish()


SINKS: dict[str, type[Sink]] = {'tensorboard': TensorBoardSink, 'wandb': WandbSink}


def check_sinks(names: Sequence[str]) -> None:
    """Checks that the sinks can be opened, and opens none.

    Raises:
        UserError: a name is unknown, or its package is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise UserError(f'unknown logger {name!r}: choose from {", ".join(SINKS)}')
        _require(SINKS[name].module, name)


def make_sinks(
    names: Sequence[str], run_dir: str | Path, config: Mapping[str, Any] | None = None
) -> list[Sink]:
    """Opens sinks by name: 'tensorboard', 'wandb'.

    Args:
        names: the sinks to open. Only their packages are imported.
        run_dir: the run's folder.
        config: the settings to show with the run.

    Raises:
        UserError: a name is unknown, or its package is not installed.
    """
    check_sinks(names)
    return [SINKS[name](Path(run_dir), config or {}) for name in names]


def _plain(value: Any) -> Any:
    """Returns `value` as one of JSON's types."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _restored(value: Any) -> Any:
    """Undoes `_plain`."""
    return float(value) if isinstance(value, str) and value in NONFINITE else value


def _numbers(row: Row) -> dict[str, float]:
    """The values of a row that make a curve."""
    labels = ('step', 'seed')
    plain = {key: _plain(value) for key, value in row.items() if key not in labels}
    return {
        key: value
        for key, value in plain.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _lane(row: Row) -> str:
    """The name of the row's curve, such as 'dtql/seed0'."""
    variant, seed = row.get('variant', 'run'), row.get('seed')
    return str(variant) if seed is None else f'{variant}/seed{seed}'


def _require(module: str, extra: str) -> Any:
    """Imports an optional package; raises UserError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"logging to {extra} needs the package {extra} ({error}): pip install '{extra}'"
        ) from None
