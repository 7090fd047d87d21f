"""`sweep`: from what a study asks for to its jobs, which a launcher starts or goes on with."""

import dataclasses
import importlib
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from dtql_jax.agents.settings import parse_all
from dtql_jax.studies import folder, local
from dtql_jax.studies.folder import PLAN, STUDY, Job, StudyPlan, read_plan, write_plan
from dtql_jax.studies.launch import LAUNCHERS, Launch, LaunchOptions, Machine
from dtql_jax.studies.plan import absolute, import_modules, make_jobs, split, typed
from dtql_jax.studies.prepare import Needs, prepare
from dtql_jax.studies.status import FAILED, STOPPED, WAITING, JobStatus, job_status, read_status
from dtql_jax.studies.study import Study, as_fields, differences, read_study, study_from, to_toml
from dtql_jax.studies.tables import plan_table, status_table
from dtql_jax.types import UserError, lasting_path, machine_told, user_path, why


@machine_told()
def sweep(
    study: Study | Mapping[str, Any] | str | pathlib.Path | None = None,
    *,
    out: str | pathlib.Path | None = None,
    launcher: str = 'local',
    retry_failed: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> list[JobStatus]:
    """Trains all tasks, agents, settings and seeds of a study, or goes on with them.

    Everything is checked before the first job starts. Jobs that are done are left alone, and a
    job that was stopped or killed goes on from its last checkpoint.

    Args:
        study: a dict of the fields of a study's file, the path of the file, or a `Study`. Without,
            the study in `out` goes on.
        out: the folder of the study; `studies/NAME` of the file NAME.toml without.
        launcher: who starts the jobs: 'local', 'print', 'slurm' or 'ray'.
        retry_failed: starts jobs again that failed.
        dry_run: prints the plan and stops.
        options: fields of `dtql_jax.studies.launch.LaunchOptions`, such as `jobs_per_device=2`.

    Returns:
        The state of each job, in the order of the plan; of a dry run an empty list.

    Raises:
        UserError: the study cannot be met, its folder has another study, or the machine fails.
        StudyStopped: SIGINT or SIGTERM came. The jobs saved their checkpoints.
    """
    found = LaunchOptions(**parse_all(LaunchOptions, options))
    starter = _launcher(launcher, found)
    # A launcher that prints commands has the standard output to itself.
    stream = sys.stderr if launcher == 'print' else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    study_dir = _study_dir(study, out)
    plan, notes, is_new = _plan(study, study_dir)
    # Elsewhere the devices are others: nothing is known of their memory.
    splits = launcher in ('local', 'print')
    plan, machine = _prepare(plan, study_dir, is_new, found, retry_failed, splits)
    states = [job_status(study_dir, name) for name in plan.names()]
    jobs = _pending(states, retry_failed)
    workers = len(local.worker_environments(found, machine)) if launcher == 'local' else None
    text = plan_table(plan.jobs, [s.state for s in states], jobs, machine, workers)
    say('\n'.join([f'study {study_dir}', '', text, *(f'note: {note}' for note in notes)]))
    if dry_run:
        return []
    if is_new:
        _create(study_dir, plan)
    if jobs:
        starter(Launch(study_dir, jobs, found, say, machine))
    else:
        say(f'\n{status_table(states)}\n{_nothing_to_do(states)}')
    return read_status(study_dir)


def _launcher(name: str, options: LaunchOptions) -> Callable[[Launch], None]:
    """The function of a launcher; raises UserError where it cannot work."""
    if name not in LAUNCHERS:
        raise UserError(f'`launcher`={name}: must be one of {", ".join(LAUNCHERS)}')
    module: ModuleType = importlib.import_module(f'dtql_jax.studies.{LAUNCHERS[name]}')
    module.check(options)
    return module.launch


def _study_dir(study: Any, out: str | pathlib.Path | None) -> pathlib.Path:
    """The folder of the study, in full."""
    if out is None and isinstance(study, str | pathlib.Path):
        out = pathlib.Path('studies', user_path('study', study).stem)
    if out is None:
        raise UserError('`out` is missing: name the folder of the study, such as studies/first')
    return lasting_path('out', out)


def _plan(study: Any, study_dir: pathlib.Path) -> tuple[StudyPlan, list[str], bool]:
    """The jobs of a study, notes about them, and whether the study is new.

    Raises:
        UserError: the study cannot be met, or the folder has another one.
    """
    exists = (study_dir / PLAN).exists()
    if study is None or exists:
        plan = read_plan(study_dir)
        written = as_fields(read_study(study_dir / STUDY))
        if changed := differences(written, plan.study):
            raise UserError(
                f'{study_dir / STUDY} was edited: {changed}; put back what the study has, or begin '
                'another one with a new `out`'
            )
    if study is None:
        _import(plan)
        return plan, [], False
    asked = _study(study)
    sys.path.append(os.getcwd())
    import_modules(asked.modules)
    asked = typed(absolute(asked))
    if exists:
        if changed := differences(as_fields(asked), plan.study):
            raise UserError(
                f'{study_dir} holds a study of other settings: {changed}. Leave out what differs, '
                'or begin a new study with another `out`'
            )
        return plan, [], False
    if study_dir.exists() and (not study_dir.is_dir() or any(study_dir.iterdir())):
        raise UserError(
            f'{study_dir} exists and is no study (no {PLAN}): choose another folder with `out`'
        )
    above = next(parent for parent in study_dir.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f'{above} is a file: choose another folder with `out`')
    jobs, notes = make_jobs(asked)
    return StudyPlan(as_fields(asked), os.getcwd(), tuple(jobs)), notes, True


def _study(study: Any) -> Study:
    """What is asked for as a `Study`."""
    if isinstance(study, Study):
        return study_from(as_fields(study))  # which checks it
    if isinstance(study, Mapping):
        return study_from(study)
    return read_study(user_path('study', study))


def _import(plan: StudyPlan) -> None:
    """Imports the modules of a study that exists, as its jobs do."""
    sys.path.append(plan.folder)
    import_modules(plan.study.get('modules', []))


def _prepare(
    plan: StudyPlan,
    study_dir: pathlib.Path,
    is_new: bool,
    options: LaunchOptions,
    retry_failed: bool,
    splits: bool,
) -> tuple[StudyPlan, Machine]:
    """The plan and the devices. New jobs get their memory and time.

    Those that are too large for a device of this machine are split where `splits` says so.
    """
    states = [job_status(study_dir, name) for name in plan.names()]
    names = set(_pending(states, retry_failed))
    jobs = [job for job in plan.jobs if job.name in names]
    if not jobs:
        return plan, Machine()
    prepared = prepare(plan, jobs, options.jobs_per_device, is_new)
    if not is_new:
        return plan, prepared.machine
    parts: list[Job] = []
    for job in jobs:
        needs = prepared.needs[job.name]
        fitting = _fitting(job, needs) if splits else [job]
        parts += [_forecast(part, needs) for part in fitting]
    return dataclasses.replace(plan, jobs=tuple(parts)), prepared.machine


def _fitting(job: Job, needs: Needs) -> Sequence[Job]:
    """The job, or parts of it that fit into the memory of a device.

    Raises:
        UserError: not even one seed fits.
    """
    most = needs.most()
    if most is None or job.lanes <= most:
        return [job]
    seeds = most // (len(job.request.get('variants', {})) or 1)
    for fewer in range(seeds, 0, -1):  # the clones take lanes too
        parts = split(job, fewer)
        if max(part.lanes for part in parts) <= most:
            return parts
    raise UserError(
        f'{job.name}: one seed needs {needs.bytes(job.lanes) / 1e9:,.1f} GB of memory and more, '
        f'{(needs.free or 0) / 1e9:,.1f} GB are free: try fewer values of float settings, a '
        'smaller network or a smaller batch'
    )


def _forecast(job: Job, needs: Needs) -> Job:
    memory, seconds = needs.bytes(job.lanes), needs.seconds * job.lanes
    return dataclasses.replace(job, memory=memory, seconds=seconds)


def _pending(states: Sequence[JobStatus], retry_failed: bool) -> tuple[str, ...]:
    """The jobs to start: those that wait or were stopped, and failed ones where that is asked."""
    wanted = (WAITING, STOPPED, *([FAILED] if retry_failed else []))
    return tuple(status.name for status in states if status.state in wanted)


def _nothing_to_do(states: Sequence[JobStatus]) -> str:
    failed = sum(status.state == FAILED for status in states)
    return 'nothing to start' + (
        f': {failed} failed (retry_failed starts them again)' if failed else ''
    )


def _create(study_dir: pathlib.Path, plan: StudyPlan) -> None:
    """Makes the folder of a study with its two files, all or nothing.

    Raises:
        UserError: it cannot be made.
    """
    new = study_dir.parent / f'.{study_dir.name}.{os.getpid()}'
    try:
        for name in ('jobs', 'state', 'logs'):
            folder.make(new / name)
        folder.write_whole(new / STUDY, to_toml(plan.study))
        write_plan(new, plan)
        try:
            new.rename(study_dir)  # over an empty folder, too
        except OSError as error:
            raise UserError(
                f'{study_dir} cannot be made ({why(error)}): choose another folder with `out`'
            ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
