"""Writes the report of a study or of any runs: a page, and its tables in other formats."""

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from dtql_jax.report.page import Section, page, tables_of, write
from dtql_jax.runs.config_file import CONFIG
from dtql_jax.studies.folder import PLAN, run_dir
from dtql_jax.studies.report_lanes import Results, gather
from dtql_jax.studies.report_published import published
from dtql_jax.studies.report_runs import problems, repeat, times
from dtql_jax.studies.report_scores import aggregate, improvement, profiles, scores
from dtql_jax.studies.report_selection import selection
from dtql_jax.studies.report_training import curves, stability, sweeps
from dtql_jax.studies.results import find_runs, read_run
from dtql_jax.studies.status import JobStatus, read_status
from dtql_jax.studies.tables import summary
from dtql_jax.types import UserError, user_path

FOLDER = 'report'
Place = str | os.PathLike[str]


def report_study(study: Place, out: Place | None = None) -> Path:
    """Writes the report of a study into its folder `report`, or into `out`; returns the page.

    Raises:
        UserError: there is no such study, it has no run yet, or a file cannot be read or written.
    """
    folder = user_path('study', study)
    if not folder.is_dir():
        raise UserError(f'`study`={str(study)!r}: there is no such folder: check the path')
    statuses = read_status(folder) if (folder / PLAN).is_file() else []
    _check_begun(folder, statuses)
    order = {status.name: place for place, status in enumerate(statuses)}
    runs = sorted(find_runs(folder), key=lambda run: order.get(run.name, len(order)))
    results = gather(folder.resolve().name, map(read_run, runs), statuses)
    return _write(results, folder / FOLDER if out is None else user_path('out', out))


def _check_begun(folder: Path, statuses: Sequence[JobStatus]) -> None:
    """Raises UserError where no job of a study has a run, with the reason of one that failed."""
    if not statuses or any((run_dir(folder, job.name) / CONFIG).exists() for job in statuses):
        return
    reason = next((f'; {job.name}: {job.reason}' for job in statuses if job.reason), '')
    raise UserError(
        f'{folder} has no run yet ({summary(statuses)}{reason}): go on with the study first'
    )


def report_runs(runs: Sequence[Place], out: Place) -> Path:
    """Writes the report of run folders, or of folders of runs, into `out`; returns the page.

    Raises:
        UserError: a folder has no run, or a file cannot be read or written.
    """
    folders = [user_path('runs', run) for run in runs]
    names = [folder.resolve().name for folder in folders]
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    results = gather(', '.join(names[:3]) + more, map(read_run, find_runs(folders)))
    return _write(results, user_path('out', out))


def sections(results: Results) -> list[Section]:
    """The sections that these results have something for."""
    found = [
        scores(results),
        aggregate(results),
        profiles(results),
        improvement(results),
        curves(results),
        sweeps(results),
        stability(results),
        selection(results),
        problems(results),
        times(results),
        published(results),
        repeat(results),
    ]
    return [section for section in found if section is not None]


def _write(results: Results, out: Path) -> Path:
    made = sections(results)
    return write(out, page(results.title, _facts(results), made), tables_of(made))


def _facts(results: Results) -> list[str]:
    """What the whole report is about."""
    now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC')
    counts = [
        _counted(len(results.tasks), 'task', 'tasks'),
        _counted(len(results.agents), 'agent with its settings', 'agents with their settings'),
        _counted(len(results.records), 'run', 'runs'),
        _counted(len(results.lanes), 'seed in all', 'seeds in all'),
    ]
    states: dict[str, int] = {}
    for status in results.statuses:
        states[status.state] = states.get(status.state, 0) + 1
    jobs = ', '.join(f'{count} {state}' for state, count in states.items())
    return [f'{", ".join(counts)}. Written {now}.', *([f'Jobs: {jobs}.'] if jobs else [])]


def _counted(count: int, one: str, many: str) -> str:
    return f'{count:,} {one if count == 1 else many}'
