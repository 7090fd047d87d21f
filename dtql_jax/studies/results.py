"""Reads the results of many runs: as records, or as one flat table of evaluations or episodes.

It reads `config.json`, whose seal it checks, `eval.jsonl` and `metrics.jsonl`, and no checkpoint.
Runs that are in progress are read up to their last whole row. Of `metrics.jsonl`, which is long,
only the rows that are needed are parsed. Nothing here loads jax.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dtql_jax.report.loggers import whole_lines
from dtql_jax.runs.config_file import CONFIG, read_config
from dtql_jax.studies.frames import Frame, Table, check_frame, column, to_frame
from dtql_jax.studies.rows import Metrics, lane_index, lane_of, read_row
from dtql_jax.types import Lane, UserError, machine_told, outside, user_path

if TYPE_CHECKING:
    import pandas
    import polars

JOBS = 'jobs'  # the folder of a study that holds its runs
MEANS = ('score', 'return', 'length', 'success')

Place = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What the files of a run say of its results.

    Attributes:
        path: the run folder.
        job: the folder's name.
        config: the content of its `config.json`.
        lanes: its training runs. One that diverged early has no evaluation.
        evals: the rows of `eval.jsonl`.
        metrics: the last row of `metrics.jsonl`; None where it has none.
        diverged: the update at which a lane, by its index, was given up.
        elapsed_s: the seconds that the run took up to an evaluation, by its step; NaN: unknown.
    """

    path: Path
    job: str
    config: dict[str, Any]
    lanes: tuple[Lane, ...]
    evals: list[dict[str, Any]]
    metrics: dict[str, Any] | None
    diverged: dict[int, int]
    elapsed_s: dict[int, float]

    @property
    def end(self) -> int | None:
        """The update at which the run ends; None where an earlier version wrote its config."""
        before = self.config.get('updates_before')  # those before the last phase
        config = self.config['identity']['config']
        return None if before is None else before + config['steps'] + config.get('online_steps', 0)

    @property
    def switch(self) -> int | None:
        """The update from which the run goes on in the environment; None where it does not."""
        online = self.config['identity']['config'].get('online_steps', 0)
        return self.end - online if online and self.end is not None else None

    def settings(self, lane: int) -> dict[str, Any]:
        """The agent's settings in a lane, which is given by its index."""
        return {**self.config['identity']['config'], **self.lanes[lane].hparams}


@machine_told()
def load_results(
    path: Place | Iterable[Place],
    per: Literal['evaluation', 'episode'] = 'evaluation',
    frame: Frame | None = None,
) -> 'Table | pandas.DataFrame | polars.DataFrame':
    """Reads the results of runs as one flat table.

    Args:
        path: a run folder, a folder of run folders, the folder of a study, or several of these. A
            run that is named twice counts once.
        per: what a row is: 'evaluation' (of one lane) or 'episode'.
        frame: 'pandas' or 'polars' for a frame of that package.

    Returns:
        A dict of equally long arrays by column, or a frame with these columns. Both kinds have
        `job` (the run folder's name), `run` (its path), `task`, `dataset`, `source`, `agent`,
        `variant`, a column `set/NAME` for each setting that differs between lanes of one agent,
        `seed` and `step`. An evaluation also has its means `score`, `return`, `length` and
        `success` (NaN: unknown), `episodes`, `failed` (the reason, or ''), `diverged_at` (NaN: the
        lane did not diverge) and `elapsed_s`. An episode has its number `episode`, and `score`,
        `return`, `length` and `success`.

    Raises:
        UserError: a folder has no run, a file is damaged, a run has no results per episode, or the
            package of the frame is not installed.
    """
    if per not in ('evaluation', 'episode'):
        raise UserError(f"`per`={per!r}: use 'evaluation' or 'episode'")
    check_frame(frame)
    results_of = _evaluations if per == 'evaluation' else _episodes
    lanes: list[tuple[dict[str, Any], dict[str, Any]]] = []
    parts: list[Table] = []
    for run_dir in find_runs(path):  # one record at a time, since records take memory
        record = read_run(run_dir)
        part = results_of(record)
        parts.append({**part, 'lane': part['lane'] + len(lanes)})
        lanes += [(_identity(record, i), record.settings(i)) for i in range(len(record.lanes))]
    results = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    lane = results.pop('lane')
    identity = {name: values[lane] for name, values in _lane_columns(lanes).items()}
    return to_frame(identity | results, frame)


@machine_told()
def read_runs(path: Place | Iterable[Place]) -> list[RunRecord]:
    """Reads the records of runs; `path` is as in `load_results`.

    Raises:
        UserError: a folder has no run, or a file is damaged.
    """
    return [read_run(run_dir) for run_dir in find_runs(path)]


def find_runs(path: Place | Iterable[Place]) -> list[Path]:
    """The run folders that `path` stands for, each once; it is as in `load_results`.

    Raises:
        UserError: a folder has none, or cannot be read.
    """
    given: Any = path
    if isinstance(path, str | os.PathLike) or not isinstance(path, Iterable):
        given = [path]
    folders = [user_path('path', folder) for folder in given]
    if not folders:
        raise UserError('`path` is empty: name at least one folder with runs')
    found: dict[Path, Path] = {}
    for folder in folders:
        for run_dir in _runs_in(folder):
            found.setdefault(run_dir.resolve(), run_dir)
    return list(found.values())


def _runs_in(folder: Path) -> list[Path]:
    """The run folders of one folder, by name."""
    with outside(f'{folder} cannot be read', 'check the path and its permissions'):
        if (folder / CONFIG).exists():
            return [folder]
        jobs = folder / JOBS
        above = jobs if jobs.is_dir() and not (jobs / CONFIG).exists() else folder
        # A hidden folder is a run that is being made.
        runs = [run for run in above.iterdir() if run.name[0] != '.' and (run / CONFIG).exists()]
    if not runs:
        raise UserError(
            f'{folder} has no run: name a run folder, a folder of run folders, or the folder of a '
            'study'
        )
    return sorted(runs)


# One run.


def read_run(run_dir: Path) -> RunRecord:
    """Reads the record of one run folder.

    Raises:
        UserError: a file is damaged or lost.
    """
    config = read_config(run_dir)
    lanes = tuple(Lane(**fields) for fields in config['identity']['lanes'])
    index = lane_index(lanes)
    paths = [run_dir / name for name in ('eval.jsonl', 'metrics.jsonl')]
    # A run that has just begun has no logs yet.
    evals, lines = (whole_lines(path) if path.exists() else [] for path in paths)
    for path in paths:
        if (evals or lines) and not path.exists():
            raise UserError(f'{path} was lost, and the run has begun: restore the file')
    rows = [
        read_row(paths[0], i, line, index, 'eval/episodes') for i, line in enumerate(evals, start=1)
    ]
    log = Metrics(paths[1], lines, index)
    return RunRecord(
        path=run_dir,
        job=run_dir.absolute().name,
        config=config,
        lanes=lanes,
        evals=rows,
        metrics=log.row(len(lines) - 1) if lines else None,
        diverged=log.diverged(),
        elapsed_s={step: log.elapsed_s(step) for step in dict.fromkeys(r['step'] for r in rows)},
    )


# The flat table.


def _evaluations(record: RunRecord) -> Table:
    """The results of a run's evaluations, with the index of the lane of each."""
    rows, index = record.evals, lane_index(record.lanes)
    lanes = [index[lane_of(row)] for row in rows]
    return {
        'lane': np.array(lanes, int),
        'step': np.array([row['step'] for row in rows], int),
        **{name: _floats(row.get(f'eval/{name}', math.nan) for row in rows) for name in MEANS},
        'episodes': np.array([row['eval/episodes'] for row in rows], int),
        'failed': column([str(row.get('eval/failed', '')) for row in rows]),
        'diverged_at': _floats(record.diverged.get(lane, math.nan) for lane in lanes),
        'elapsed_s': _floats(record.elapsed_s[row['step']] for row in rows),
    }


def _episodes(record: RunRecord) -> Table:
    """The results of all episodes of a run, with the index of the lane of each."""
    rows = [row for row in record.evals if 'eval/failed' not in row]
    if any('episode/return' not in row for row in rows):
        raise UserError(
            f'{record.path} has evaluations without results per episode, which an earlier version '
            "wrote: use `per`='evaluation', or leave that run out"
        )
    index = lane_index(record.lanes)
    counts = [len(row['episode/return']) for row in rows]
    # A task without a score is scored by its return.
    other = {'score': [row['episode/return'] for row in rows]}
    unknown = [[math.nan] * count for count in counts]

    def flat(name: str) -> np.ndarray:
        values = (
            row.get(f'episode/{name}', instead)
            for row, instead in zip(rows, other.get(name, unknown), strict=True)
        )
        return _floats(itertools.chain.from_iterable(values))

    return {
        'lane': np.repeat(np.array([index[lane_of(row)] for row in rows], int), counts),
        'step': np.repeat(np.array([row['step'] for row in rows], int), counts),
        'episode': np.array([i for count in counts for i in range(count)], int),
        **{name: flat(name) for name in MEANS},
    }


def _floats(values: Iterable[float]) -> np.ndarray:
    return np.fromiter(values, float)


def _identity(record: RunRecord, lane: int) -> dict[str, Any]:
    """What tells a lane from all others, its settings aside."""
    identity, card = record.config['identity'], record.config['data']
    return {
        'job': record.job,
        'run': str(record.path),
        'task': identity['task']['name'],
        'dataset': ' + '.join(card['datasets']),
        'source': card['source'],
        'agent': identity['agent'],
        'variant': record.lanes[lane].variant,
        'seed': record.lanes[lane].seed,
    }


def _lane_columns(lanes: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Table:
    """The columns that are the same in all rows of a lane, from identities and settings."""
    seen: dict[tuple[str, str], set[str]] = {}  # (agent, setting) -> its values
    for identity, settings in lanes:
        for name, value in settings.items():
            seen.setdefault((identity['agent'], name), set()).add(repr(value))
    differ = dict.fromkeys(name for (_, name), values in seen.items() if len(values) > 1)
    names = list(lanes[0][0])
    columns = {name: column([identity[name] for identity, _ in lanes]) for name in names}
    seeds = columns.pop('seed')
    for name in differ:
        columns[f'set/{name}'] = column([settings.get(name) for _, settings in lanes])
    return {**columns, 'seed': seeds}
