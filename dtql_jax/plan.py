"""From what a user asks for to what a run will do, before anything is loaded or compiled."""

import dataclasses
import difflib
import json
import operator
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from dtql_jax import tasks
from dtql_jax.agents import AGENTS, Config
from dtql_jax.configs import as_bool, task_config
from dtql_jax.engine import Lane
from dtql_jax.types import UserError

TASK_SETTINGS = ('goal', 'success_ends')
AT_LEAST = {
    'num_seeds': 1,
    'seed': 0,
    'steps': 1,
    'pretrain_steps': 0,
    'batch_size': 1,
    'eval_every': 1,
    'eval_episodes': 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a user may ask for; None means the default of the task or the agent."""

    env: str = 'pointmaze-umaze'
    agent: str = 'dtql'
    num_seeds: int = 2
    seed: int = 0  # the first; the others follow it
    steps: int | None = None
    pretrain_steps: int | None = None
    batch_size: int | None = None
    eval_every: int | None = None
    eval_episodes: int | None = None
    source: str | None = None  # minari, d4rl or ogbench
    dataset_path: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # --set name=value


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request with every default filled in."""

    request: Request
    task: tasks.Task
    note: str | None
    config: Config
    lanes: tuple[Lane, ...]
    eval_episodes: int

    def identity(self) -> dict[str, Any]:
        """All that decides a run's numbers, as flat JSON-able fields: what a resume must match."""
        fields = {
            'agent': self.request.agent,
            **{f'task.{k}': v for k, v in dataclasses.asdict(self.task).items()},
            **{f'config.{k}': v for k, v in dataclasses.asdict(self.config).items()},
            'lanes': [dataclasses.asdict(lane) for lane in self.lanes],
            'eval_episodes': self.eval_episodes,
        }
        return json.loads(json.dumps(fields))  # tuples as lists: equal to what a file gives back

    def run_dir(self) -> pathlib.Path:
        """Where the run is kept unless the user says otherwise."""
        asked = self.request
        parts = [asked.env, *([asked.source] if asked.source else []), asked.agent]
        return pathlib.Path('runs', re.sub(r'[^\w.-]+', '-', '-'.join(parts)))


def make_request(asked: Mapping[str, Any]) -> Request:
    """A request for what is `asked` by name; UserError for names that there are not."""
    names = [field.name for field in dataclasses.fields(Request)]
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
            raise UserError(
                f'a request has no {name!r}; nearest: {", ".join(near)} '
                "(what belongs to the agent goes into 'settings')"
            )
    return Request(**asked)


def make_plan(request: Request) -> Plan:
    """Resolves names and defaults and checks them; raises UserError for what cannot be done."""
    request = _checked(request)
    if request.agent not in AGENTS:
        near = difflib.get_close_matches(request.agent, AGENTS, n=3, cutoff=0.3) or list(AGENTS)
        raise UserError(f'unknown agent {request.agent!r}; nearest: {", ".join(near)}')
    task, note = tasks.resolve(request.env, request.source, request.dataset_path)
    changes = dict(request.settings)
    task_changes = {k: changes.pop(k) for k in TASK_SETTINGS if k in changes}
    if 'success_ends' in task_changes:
        task_changes['success_ends'] = as_bool(task_changes['success_ends'])
    if task_changes:
        task = tasks.adjust(task, **task_changes)
    typed = set(changes)
    for name in ('steps', 'pretrain_steps', 'batch_size', 'eval_every'):
        value = getattr(request, name)
        if value is not None:
            if name in changes:
                raise UserError(f'{name} is given by --{name} and by --set: keep one')
            changes[name] = value
    config = task_config(request.agent, task.row, changes, others=TASK_SETTINGS)
    # Recorded as the values that they mean, whatever they were written as.
    settings = {**task_changes, **{name: getattr(config, name) for name in typed}}
    return Plan(
        request=dataclasses.replace(request, settings=settings),
        task=task,
        note=note if request.dataset_path is None else None,  # it tells of the task's own sets
        config=config,
        lanes=_lanes(request, config),
        eval_episodes=request.eval_episodes or task.eval_episodes,
    )


def _checked(request: Request) -> Request:
    """The request with plain types; UserError for numbers that are none, or out of range."""
    changes: dict[str, Any] = {}
    for name, least in AT_LEAST.items():
        value = getattr(request, name)
        if value is None and name not in ('num_seeds', 'seed'):
            continue
        try:
            if isinstance(value, bool):
                raise TypeError
            changes[name] = operator.index(value)
        except TypeError:
            raise UserError(f'{name}={value!r}: not a whole number') from None
        if value < least:
            raise UserError(f'--{name}={value}: must be at least {least}')
    if request.seed + request.num_seeds > 2**32:
        raise UserError(f'--seed={request.seed}: the seeds must stay below 2^32')
    if not isinstance(request.settings, Mapping):
        raise UserError(f'settings={request.settings!r}: give a dict of names and values')
    if request.dataset_path is not None:
        # Absolute, since a resume or an evaluation may start elsewhere.
        changes['dataset_path'] = str(pathlib.Path(request.dataset_path).expanduser().resolve())
    return dataclasses.replace(request, **changes)


def _lanes(request: Request, config: Config) -> tuple[Lane, ...]:
    """The agent's lanes, then those of its clone."""
    lanes = [Lane(request.agent, request.seed + i) for i in range(request.num_seeds)]
    clone = AGENTS[request.agent].clone
    if config.clone_seeds and clone is None:
        raise UserError(f'clone_seeds: {request.agent} has no setting that makes it a clone')
    lanes += [Lane('clone', request.seed + i, clone) for i in range(config.clone_seeds)]
    return tuple(lanes)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The fields in which two identities differ, as `name: run has A, asked for B`."""
    return [
        f'{name}: the run has {theirs.get(name)!r}, asked for {ours.get(name)!r}'
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def read_run(run_dir: pathlib.Path) -> dict[str, Any]:
    """The `config.json` of a run folder; UserError where there is none, or it is no JSON."""
    path = run_dir / 'config.json'
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f'{run_dir} is no run folder (no config.json): check the path') from None
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error}): restore it, or start anew') from None


def request_of_run(run_dir: pathlib.Path, asked: Mapping[str, Any]) -> Request:
    """The request that a run was started with, changed by what is `asked` for explicitly now."""
    recorded = read_run(run_dir)['request']
    settings = {**recorded['settings'], **asked.get('settings', {})}
    return make_request({**recorded, **asked, 'settings': settings})


def task_of_run(description: Mapping[str, Any]) -> tasks.Task:
    """The task that a run was started with, settings included, from its `config.json`."""
    fields = {
        name.removeprefix('task.'): tuple(value) if isinstance(value, list) else value
        for name, value in description['identity'].items()
        if name.startswith('task.')
    }
    return task_with_data(tasks.Task(**fields), description['request']['dataset_path'])


def task_with_data(task: tasks.Task, dataset_path: str | None) -> tasks.Task:
    """The task with the folder or file that was given, if any, in place of its own datasets."""
    return task if dataset_path is None else dataclasses.replace(task, datasets=(dataset_path,))


def check_new(run_dir: pathlib.Path) -> None:
    """Raises UserError where a run folder exists already, or can never be made."""
    if run_dir.exists():
        raise UserError(
            f'{run_dir} exists and is never overwritten: add --resume to go on with it, '
            'or name another folder with --out'
        )
    above = next(parent for parent in run_dir.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f'{run_dir} cannot be made in {above}: name another folder with --out')


def create_run(run_dir: pathlib.Path, description: Mapping[str, Any]) -> None:
    """Makes the run folder with its `config.json`, at once or not at all; never over another."""
    check_new(run_dir)
    new = run_dir.parent / f'.{run_dir.name}.{os.getpid()}'
    try:
        new.mkdir(parents=True)
        (new / 'config.json').write_text(json.dumps(description, indent=2) + '\n')
        new.rename(run_dir)
    except OSError as error:
        raise UserError(f'{run_dir} cannot be made: {error}') from None
