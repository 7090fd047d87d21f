"""The folder of a study: where its files are, and its list of jobs.

`plan.json` lists the jobs as they were made when the study began. Neither another machine nor
another version of a table changes them, so that a study always goes on with the jobs it began with.
It is sealed: its `sha256` covers the rest, so that no edit changes a job unnoticed.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from dtql_jax.runs.config_file import seal
from dtql_jax.types import UserError, outside

STUDY, PLAN = 'study.toml', 'plan.json'
FORMAT = 1  # of `plan.json`


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of a study.

    Args:
        name: the name of its folder.
        request: what `dtql_jax.run` is asked for, by name.
        lanes: how many training runs its program holds.
        memory: bytes that it takes at least, as predicted; None where that is not known.
        seconds: how long it takes, roughly, on the machine where the study began.
    """

    name: str
    request: Mapping[str, Any]
    lanes: int
    memory: int | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """The content of `plan.json`.

    Args:
        study: the settings of the study, as its file has them.
        folder: the working folder in which modules of the user's own are found.
        jobs: the jobs in the order of their start.
    """

    study: Mapping[str, Any]
    folder: str
    jobs: tuple[Job, ...]

    def job(self, name: str) -> Job:
        """The job of a name; raises UserError where there is none."""
        for job in self.jobs:
            if job.name == name:
                return job
        raise UserError(f'the study has no job {name!r}: there are {", ".join(self.names())}')

    def names(self) -> tuple[str, ...]:
        """The names of all jobs."""
        return tuple(job.name for job in self.jobs)


def run_dir(study_dir: pathlib.Path, job: str) -> pathlib.Path:
    """The run folder of a job."""
    return study_dir / 'jobs' / job


def state_file(study_dir: pathlib.Path, job: str) -> pathlib.Path:
    """The file in which a job tells its state."""
    return study_dir / 'state' / f'{job}.json'


def lock_file(study_dir: pathlib.Path, job: str) -> pathlib.Path:
    """The file whose lock the process of a job holds."""
    return study_dir / 'state' / f'.{job}.lock'


def log_file(study_dir: pathlib.Path, job: str) -> pathlib.Path:
    """The file with the output of a job."""
    return study_dir / 'logs' / f'{job}.log'


def read_plan(study_dir: pathlib.Path) -> StudyPlan:
    """The jobs of a study.

    Raises:
        UserError: the folder is no study, or the file was edited, is damaged or of another version.
    """
    path = study_dir / PLAN
    if not path.is_file():
        raise UserError(f'{study_dir} is no folder of a study (no {PLAN}): check the path')
    cure = 'restore the file, or begin the study again in another folder'
    found = read_json(path, cure)
    if found.get('format') != FORMAT:
        raise UserError(
            f'{path} has format {found.get("format")}, and this version of dtql_jax reads format '
            f'{FORMAT} only: use the version that made the study'
        )
    if found.pop('sha256', None) != seal(found):
        raise UserError(f'{path} was edited or is damaged: {cure}')
    jobs = tuple(Job(**job) for job in found['jobs'])
    return StudyPlan(found['study'], found['folder'], jobs)


def write_plan(study_dir: pathlib.Path, plan: StudyPlan) -> None:
    """Writes `plan.json`."""
    fields = json.loads(json.dumps({'format': FORMAT, **dataclasses.asdict(plan)}))
    write_whole(study_dir / PLAN, json.dumps({**fields, 'sha256': seal(fields)}, indent=1))


def read_json(path: pathlib.Path, cure: str) -> dict[str, Any]:
    """The object in a JSON file; raises UserError with the cure where there is none."""
    with outside(f'{path} cannot be read', cure):
        found = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(found, dict):
        raise UserError(f'{path} holds no JSON object: {cure}')
    return found


def make(folder: pathlib.Path) -> None:
    """Makes a folder, and those above it, where they are absent."""
    with outside(f'{folder} cannot be made', 'choose another folder with `out`'):
        folder.mkdir(parents=True, exist_ok=True)


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file so that a reader sees the old text or the new one, and never a part."""
    with outside(f'{path} cannot be written', 'make room or give permission'):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, new = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        try:
            with os.fdopen(number, 'w', encoding='utf-8') as file:
                file.write(text.rstrip('\n') + '\n')
            os.chmod(new, 0o644)
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
