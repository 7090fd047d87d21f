"""Callbacks, which a run tells of its rows; and those that log to wandb and TensorBoard.

They may be told again of the rows between the last checkpoint and a stop.
"""

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dtql_jax.report.loggers import Row, plain
from dtql_jax.types import Lane, UserError, needed, why


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback is told. Nothing is copied or waited for until it reads an array.

    Attributes:
        kind: 'log', 'evaluation' or 'end'.
        step: the update that the rows are of; the last one at the end.
        run_dir: the folder of the run.
        rows: those that were added to `metrics.jsonl` or `eval.jsonl`, one for each lane that has
            one; none at the end.
        lanes: the training runs.
        agent: the algorithm.
        state: the `State` that training has reached, of all lanes `[S, ...]`. Its arrays are
            overwritten after the call: copy what is to be kept, such as by `jax.device_get`. None
            where a signal or an error ended the run.
    """

    kind: str
    step: int
    run_dir: Path
    rows: Sequence[Row] = ()
    lanes: Sequence[Lane] = ()
    agent: Any = None
    state: Any = None


Callback = Callable[[Event], object]


class TensorBoardSink:
    """Writes event files to `run_dir/tensorboard`, one TensorBoard run per variant and seed."""

    module: ClassVar[str] = 'tensorboard.summary'  # the package that it needs

    def __init__(self, run_dir: Path, config: Mapping[str, Any]):
        del config  # TensorBoard has no place for it
        self._open = needed('logging to tensorboard', 'tensorboard', self.module).Writer
        self._dir = run_dir / 'tensorboard'
        self._writers: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        for row in event.rows:
            lane = _lane(row)
            if lane not in self._writers:
                self._writers[lane] = self._open(str(self._dir / lane))
            for key, value in _numbers(row).items():
                self._writers[lane].add_scalar(key, value, event.step)
        if event.kind == 'end':
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

    def __call__(self, event: Event) -> None:
        for row in event.rows:
            lane = _lane(row)
            numbers = {f'{key}/{lane}': value for key, value in _numbers(row).items()}
            self._run.log({'update': event.step, **numbers})
        if event.kind == 'end':
            self._run.finish()


SINKS: dict[str, Any] = {'tensorboard': TensorBoardSink, 'wandb': WandbSink}


def check_sinks(names: Sequence[str]) -> None:
    """Checks that the sinks can be opened, and opens none.

    Raises:
        UserError: a name is unknown, or its package is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise UserError(f'unknown logger {name!r}: choose from {", ".join(SINKS)}')
        needed(f'logging to {name}', name, SINKS[name].module)


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raises UserError unless these are functions."""
    for given in callbacks:
        if not callable(given):
            raise UserError(f'`callbacks`: {given!r} is no function of an event')


def make_sinks(
    names: Sequence[str],
    run_dir: str | Path,
    config: Mapping[str, Any],
    warn: Callable[[str], None],
) -> list[Callback]:
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
    sinks: list[Callback] = []
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
