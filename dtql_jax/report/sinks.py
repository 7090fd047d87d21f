"""Further places for the rows of a run, beside its files: wandb and TensorBoard.

They may repeat the rows between the last checkpoint and a stop.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dtql_jax.report.loggers import Row, plain
from dtql_jax.types import UserError, needed, why


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
        self._open = needed('logging to tensorboard', 'tensorboard', self.module).Writer
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
        wandb = needed('logging to wandb', 'wandb', self.module)
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
        needed(f'logging to {name}', name, SINKS[name].module)


def make_sinks(
    names: Sequence[str],
    run_dir: str | Path,
    config: Mapping[str, Any],
    warn: Callable[[str], None],
) -> list[Sink]:
    """Opens sinks by name: 'tensorboard', 'wandb'.

    Args:
        names: the sinks to open. Only their packages are imported.
        run_dir: the run's folder.
        config: the settings to show with the run.
        warn: called with a line about each sink that cannot be opened, which is left out.

    Raises:
        UserError: a name is unknown, or its package is not installed.
    """
    check_sinks(names)
    sinks: list[Sink] = []
    for name in names:
        try:
            sinks.append(SINKS[name](Path(run_dir), config))
        except Exception as error:  # of any kind: no network, no login, a full disk
            warn(f'logging to {name} failed ({why(error)}): the run goes on without it')
    return sinks


def _numbers(row: Row) -> dict[str, float]:
    """The values of a row that make a curve."""
    labels = ('step', 'seed')
    values = {key: plain(value) for key, value in row.items() if key not in labels}
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _lane(row: Row) -> str:
    """The name of the row's curve, such as 'dtql/seed0'."""
    variant, seed = row.get('variant', 'run'), row.get('seed')
    return str(variant) if seed is None else f'{variant}/seed{seed}'
