"""What a run keeps in its folder while it trains: logs and checkpoints, and who is told of it."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dtql_jax.agents.base import State
from dtql_jax.report.loggers import JsonlLog, Row
from dtql_jax.report.sinks import Callback, Event
from dtql_jax.training import checkpoint
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import CHECKPOINTS, Cursor, Progress
from dtql_jax.types import UserError, why

KINDS = {'metrics': 'log', 'eval': 'evaluation'}  # of an event, by the log
LOGS = tuple(KINDS)


def begun(run_dir: pathlib.Path) -> bool:
    """Whether a run has a checkpoint to go on from. One without had no time to write a row.

    Raises:
        UserError: its logs have rows, so its checkpoints were lost.
    """
    if checkpoint.any_in(run_dir / CHECKPOINTS):
        return True
    for name in LOGS:
        path = run_dir / f'{name}.jsonl'
        if path.is_file() and path.stat().st_size:
            raise UserError(
                f'{path} has rows, but {run_dir / CHECKPOINTS} has no checkpoint: restore that '
                'folder, or train again with another `out`; to start from the beginning here would '
                'remove the rows'
            )
    return False


class Records:
    """The files of a run, written by the one process that trains in its folder.

    Args:
        run_dir: the run folder.
        config: the content of its `config.json`, which each checkpoint repeats.
        engine: the agent and its lanes.
        callbacks: are told of rows and of the end. One that fails is given up.
        warn: called with a line about what was given up or is damaged.
        check: called before each save; raises UserError where the folder is no longer ours.
    """

    def __init__(
        self,
        run_dir: pathlib.Path,
        config: Mapping[str, Any],
        engine: Engine,
        callbacks: Sequence[Callback],
        warn: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
    ):
        self.run_dir = run_dir
        self.config = dict(config)
        self.callbacks = list(callbacks)
        self._warn = warn
        self._check = check
        self._logs: dict[str, JsonlLog] = {}
        self._verified = False  # whether a save of this process was read back
        self._cursor = Cursor()
        self._lanes = engine.lanes
        self._agent = engine.agent

    @contextlib.contextmanager
    def open(self, cursor: Cursor) -> Iterator[None]:
        """Opens the logs where a checkpoint left them, inside the block.

        Args:
            cursor: the point that the run has reached, now and later.

        Raises:
            UserError: a log is not what it was when the checkpoint was saved.
        """
        self._cursor = cursor
        with contextlib.ExitStack() as stack:
            for name in LOGS:
                log = JsonlLog(
                    self.run_dir / f'{name}.jsonl',
                    cursor.offsets.get(name, 0),
                    cursor.digests.get(name),
                )
                self._logs[name] = stack.enter_context(log)
            yield

    def write(
        self,
        log: str,
        step: int,
        rows: Mapping[int, Mapping[str, Any]],
        times: Mapping[str, float],
        state: State,
    ) -> None:
        """Writes rows, given by the index of their lane, to a log, and tells the callbacks."""
        seconds = {f'time/{name}': value for name, value in times.items()}
        whole = []
        for i, row in rows.items():
            lane = self._lanes[i]
            lane_row = {'step': step, 'variant': lane.variant, 'seed': lane.seed, **row, **seconds}
            self._logs[log].write(lane_row)
            whole.append(lane_row)
        self._tell(KINDS[log], step, whole, state)

    def save(self, progress: Progress, cursor: Cursor) -> None:
        """Writes a checkpoint, which records lengths and digests of the logs.

        The first one is read back: not every file system gives back what was written.

        Raises:
            UserError: the folder or a log was removed, or the disk is full.
        """
        self._check()
        cursor.config = self.config
        cursor.offsets = {name: log.flush() for name, log in self._logs.items()}
        cursor.digests = {name: log.digest for name, log in self._logs.items()}
        folder = self.run_dir / CHECKPOINTS
        checkpoint.save(folder, progress, dataclasses.asdict(cursor))
        if not self._verified:
            checkpoint.verify(folder, progress)
            self._verified = True

    def end(self, state: State | None = None) -> None:
        """Tells the callbacks that the run has ended; once, whoever says so."""
        self._tell('end', self._cursor.step, (), state)
        self.callbacks.clear()

    def _tell(self, kind: str, step: int, rows: Sequence[Row], state: State | None) -> None:
        """Calls the callbacks, and gives up those that fail: they are others' code."""
        event = Event(kind, step, self.run_dir, rows, self._lanes, self._agent, state)
        for callback in list(self.callbacks):
            try:
                callback(event)
            except Exception as error:  # of any kind
                self.callbacks.remove(callback)
                name = getattr(callback, '__name__', type(callback).__name__)
                self._warn(
                    f'{name} failed ({why(error)}): the run goes on without it; {self.run_dir} has '
                    'all rows'
                )
