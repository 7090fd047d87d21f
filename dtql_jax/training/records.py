"""What a run keeps in its folder while it trains: logs, further sinks and checkpoints."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dtql_jax.report.loggers import JsonlLog
from dtql_jax.report.sinks import Sink
from dtql_jax.training import checkpoint
from dtql_jax.training.progress import CHECKPOINTS, Cursor, Progress
from dtql_jax.types import Lane, UserError, why

LOGS = ('metrics', 'eval')


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
        sinks: further places for rows. One that fails is given up.
        warn: called with a line about what was given up or is damaged.
        check: called before each save; raises UserError where the folder is no longer ours.
    """

    def __init__(
        self,
        run_dir: pathlib.Path,
        config: Mapping[str, Any],
        sinks: Sequence[Sink],
        warn: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
    ):
        self.run_dir = run_dir
        self.config = dict(config)
        self.sinks = list(sinks)
        self._warn = warn
        self._check = check
        self._logs: dict[str, JsonlLog] = {}
        self._verified = False  # whether a save of this process was read back

    @contextlib.contextmanager
    def open(self, cursor: Cursor) -> Iterator[None]:
        """Opens the logs where a checkpoint left them, inside the block.

        Raises:
            UserError: a log is not what it was when the checkpoint was saved.
        """
        with contextlib.ExitStack() as stack:
            for name in LOGS:
                log = JsonlLog(
                    self.run_dir / f'{name}.jsonl',
                    cursor.offsets.get(name, 0),
                    cursor.digests.get(name),
                )
                self._logs[name] = stack.enter_context(log)
            yield

    def write(self, log: str, step: int, lane: Lane, row: dict, times: dict[str, float]) -> None:
        """Writes one row to a log and to the sinks."""
        row = {'step': step, 'variant': lane.variant, 'seed': lane.seed, **row}
        row |= {f'time/{name}': value for name, value in times.items()}
        self._logs[log].write(row)
        for sink in list(self.sinks):
            self._try(sink, sink.write, step, row)

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

    def close(self) -> None:
        """Closes the sinks."""
        for sink in list(self.sinks):
            self._try(sink, sink.close)
        self.sinks.clear()

    def _try(self, sink: Sink, work: Callable[..., None], *arguments: Any) -> None:
        """Does some work of a sink, and gives the sink up where it fails."""
        try:
            work(*arguments)
        except Exception as error:  # of any kind: a sink is another's code, often over a network
            self.sinks.remove(sink)
            self._warn(
                f'{type(sink).__name__} failed ({why(error)}): the run goes on without it; '
                f'{self.run_dir} has all rows'
            )
