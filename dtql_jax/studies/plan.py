"""From a study to its jobs: which settings go to which agents, what is a lane and what a job.

Everything here is decided by names and values: no data are read and nothing is compiled.
"""

import itertools
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dtql_jax.agents import settings
from dtql_jax.agents.base import Agent
from dtql_jax.agents.registry import find_agent, import_own
from dtql_jax.agents.settings import nearest
from dtql_jax.report.sinks import check_sinks
from dtql_jax.runs.plan import OF_ANY_RUN, label, make_plan, make_request
from dtql_jax.runs.plan import Request as RunRequest
from dtql_jax.runs.task_settings import TaskSettings
from dtql_jax.studies.folder import Job
from dtql_jax.studies.study import WHERE, Override, Study, as_fields, check_once, study_from
from dtql_jax.types import UserError, user_path

FREE = ('log_to',)  # what a run may be asked for that is no plain value
OF_STUDY = ('env', 'agent', 'num_seeds', 'seed')  # what a grid cannot change
LONGEST = 150  # characters of a job's name, which is the name of a folder
Grid = dict[str, tuple[Any, ...]]


def import_modules(modules: Iterable[str]) -> None:
    """Imports files or modules of the user's own, which register tasks and agents.

    Raises:
        UserError: one is not there, or importing it fails.
    """
    for module in modules:
        if module.endswith('.py') and not pathlib.Path(module).is_file():
            raise UserError(f'`modules`={module}: there is no such file: check the path')
        try:
            import_own(module)
        except UserError as error:
            raise UserError(f'`modules`={module}: {error}') from None


def absolute(study: Study) -> Study:
    """The study with its modules, tasks, agents and data in full, wherever a job starts."""
    fields = as_fields(study)
    fields['modules'] = [
        str(user_path('modules', name).resolve()) if name.endswith('.py') else name
        for name in study.modules
    ]
    for table in (fields, *fields.get('override', [])):
        for name in (name for name in WHERE if name in table):
            table[name] = [getattr(RunRequest(**{name: text}), name) for text in table[name]]
    return study_from(fields)


def typed(study: Study) -> Study:
    """The study with every value parsed, and a check of every name and value.

    Raises:
        UserError: a setting is unknown to all agents that it is meant for, a value is wrong, or an
            override fits no job.
    """
    fields = as_fields(study)
    for name in WHERE:
        for i, override in enumerate(study.override, 1):
            for text in getattr(override, name):
                if text not in getattr(study, name):
                    names = nearest(text, getattr(study, name))
                    raise UserError(
                        f'override {i} fits no job: the study has no {name} {text!r}; '
                        f'nearest: {names}'
                    )
    _type_table(fields, study.agent)
    for table, override in zip(fields.get('override', []), study.override, strict=True):
        _type_table(table, override.agent or study.agent)
    return study_from(fields)


def make_jobs(study: Study) -> tuple[list[Job], list[str]]:
    """The jobs of a study whose values are typed, and notes for the user.

    Raises:
        UserError: a job cannot be planned, or two would have one name.
    """
    jobs: dict[str, Job] = {}
    notes: dict[str, None] = dict.fromkeys(_notes(study))
    for env, agent in itertools.product(study.env, study.agent):
        fixed, lanes, static = _of_pair(study, env, agent)
        for values in _product(static):
            request = {'env': env, 'agent': agent, **fixed, **values}
            if lanes:
                request['variants'] = variants(lanes)
            name = job_name(env, agent, values)
            if name in jobs:
                raise UserError(
                    f'two jobs of the study would have the name {name}: rename a task, an agent or '
                    'a file'
                )
            try:
                plan = make_plan(make_request(request))
            except UserError as error:
                raise UserError(f'{name}: {error}') from None
            if plan.note:
                notes[plan.note] = None
            jobs[name] = Job(name, request, len(plan.lanes))
    return list(jobs.values()), list(notes)


def job_name(env: str, agent: str, values: Mapping[str, Any]) -> str:
    """The name of a job and of its folder: `<task>-<agent>[-hidden=256]`."""
    path = env.rpartition(':')[2]
    task = pathlib.Path(path).name if path.startswith('/') else env
    texts = [task, label(agent), *(f'{n}={_short(v)}' for n, v in values.items())]
    name = re.sub(r'[^\w.=-]+', '-', '-'.join(texts)).strip('-.')
    if len(name) > LONGEST:
        raise UserError(f'the name of the job {name} is too long for a folder: try fewer settings')
    return name


def variants(grid: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """The lanes of a grid of float settings by their label: `alpha=0.5 lr=0.001`."""
    return {
        ' '.join(f'{name}={_short(value)}' for name, value in values.items()): values
        for values in _product(grid)
    }


def float_grid(agent: type[Agent], grid: Mapping[str, Sequence[Any]]) -> Grid:
    """A grid of lanes, parsed.

    Raises:
        UserError: a setting is no float setting of the agent, or a value is wrong or given twice.
    """
    parsed: Grid = {}
    for name, values in grid.items():
        found = tuple(
            settings.parse(agent.config_class, name, value, OF_ANY_RUN) for value in values
        )
        if not is_of_lanes(agent, name):
            raise UserError(
                f'{name} is the same for all lanes of a run: `dtql sweep` starts a run for each '
                'value of it'
            )
        check_once(name, found)
        parsed[name] = found
    return parsed


def is_of_lanes(agent: type[Agent], name: str) -> bool:
    """Whether the lanes of one program may differ in a setting of an agent."""
    if name == 'discount' and 'return_to_go' in agent.columns:
        return False
    return settings.kinds(agent.config_class).get(name) is float


def split(job: Job, most: int) -> list[Job]:
    """The job in parts of at most `most` seeds, which have their seeds in order.

    The clones, which begin with the first seed as the others do, are split with them.
    """
    seeds = job.request.get('num_seeds', RunRequest().num_seeds)
    parts = -(-seeds // most)
    if parts == 1:
        return [job]
    first = job.request.get('seed', RunRequest().seed)
    clones = make_plan(make_request(job.request)).config.clone_seeds
    groups = len(job.request.get('variants', {})) or 1
    cuts = [seeds * i // parts for i in range(parts + 1)]
    found = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts), 1):
        request = {**job.request, 'num_seeds': stop - start, 'seed': first + start}
        mine = max(0, (clones if number == parts else min(clones, stop)) - start)
        if clones:
            request['clone_seeds'] = mine
        lanes = groups * (stop - start) + mine
        found.append(Job(f'{job.name}-part{number}', request, lanes))
    return found


def _of_pair(study: Study, env: str, agent: str) -> tuple[dict[str, Any], Grid, Grid]:
    """What a task and an agent get: fixed values, the grid of lanes and the grid of jobs."""
    fixed: dict[str, Any] = {}
    grid: Grid = {}
    fitting = [override for override in study.override if _fits(override, env, agent)]
    tables: list[Study | Override] = [study, *fitting]
    for table in tables:
        for name, value in table.settings.items():
            grid.pop(name, None)
            fixed[name] = value
        for name, values in table.sweep.items():
            fixed.pop(name, None)
            grid[name] = values
    known = _known(agent)
    fixed = {name: value for name, value in fixed.items() if name in known}
    grid = {name: values for name, values in grid.items() if name in known}
    found = find_agent(agent).agent
    lanes = {name: values for name, values in grid.items() if is_of_lanes(found, name)}
    return fixed, lanes, {name: values for name, values in grid.items() if name not in lanes}


def _fits(override: Override, env: str, agent: str) -> bool:
    return env in (override.env or (env,)) and agent in (override.agent or (agent,))


def _product(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of a grid, the last setting changing first; one empty one of an empty."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _known(agent: str) -> set[str]:
    """The names that a job of an agent can be given."""
    return {*settings.kinds(find_agent(agent).agent.config_class), *OF_ANY_RUN, *FREE}


def _type_table(table: dict[str, Any], agents: Sequence[str]) -> None:
    """Parses the values of a study's or an override's fields, in place."""
    others = ('sweep', 'override', 'modules', *WHERE)
    for name in [name for name in table if name not in others]:
        table[name] = _typed(name, table[name], agents)
    for name, values in table.get('sweep', {}).items():
        if name in OF_STUDY or name in FREE:
            raise UserError(f'sweep: {name} cannot be swept: give it once for the study')
        table['sweep'][name] = [_typed(name, value, agents) for value in values]


def _typed(name: str, value: Any, agents: Sequence[str]) -> Any:
    """A value as the first of the agents that has the setting takes it, if all can take it."""
    if name in FREE:
        names = RunRequest(**{name: value}).log_to
        check_sinks(names)
        return list(names)
    if name in settings.kinds(RunRequest):
        return getattr(RunRequest(**{name: value}), name)
    if name in settings.kinds(TaskSettings):
        return settings.parse(TaskSettings, name, value)
    classes = [find_agent(agent).agent.config_class for agent in agents]
    having = [found for found in classes if name in settings.kinds(found)]
    if not having:
        known = {n for found in classes for n in settings.kinds(found)} | set(OF_ANY_RUN)
        raise UserError(f'unknown setting {name!r}; nearest: {nearest(name, known)}')
    values = [settings.parse(found, name, value) for found in having]
    return values[0]


def _notes(study: Study) -> list[str]:
    """Says which settings go to some of the agents only."""
    names = [*study.settings, *study.sweep]
    found = []
    for name in dict.fromkeys(names):
        having = [agent for agent in study.agent if name in _known(agent)]
        if len(having) < len(study.agent):
            found.append(f'{name} is a setting of {", ".join(map(label, having))} only')
    return found


def _short(value: Any) -> str:
    """A value in a name: `1` for 1.0, `true`, the last part of a path."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:g}' if float(f'{value:g}') == value else repr(value)
    return pathlib.PurePath(value).name if isinstance(value, str) and '/' in value else str(value)
