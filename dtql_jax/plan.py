"""From what a user asks for to what a run will do, before anything is loaded or compiled."""

import dataclasses
import difflib
import json
import os
import pathlib
from typing import Any

from dtql_jax import tasks
from dtql_jax.agents import AGENTS, Config
from dtql_jax.configs import task_config
from dtql_jax.engine import Lane
from dtql_jax.types import UserError

TASK_SETTINGS = ('goal', 'success_ends')


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
    dataset_path: str | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # --set name=value


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
        return pathlib.Path('runs', f'{self.request.env}-{self.request.agent}'.replace(':', '-'))


def make_plan(request: Request) -> Plan:
    """Resolves names and defaults and checks them; raises UserError for what cannot be done."""
    if request.agent not in AGENTS:
        near = difflib.get_close_matches(request.agent, AGENTS, n=3, cutoff=0.3) or list(AGENTS)
        raise UserError(f'unknown agent {request.agent!r}; nearest: {", ".join(near)}')
    for name in ('num_seeds', 'eval_episodes'):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise UserError(f'--{name}={value}: must be at least 1')
    if not 0 <= request.seed < 2**32 - request.num_seeds:
        raise UserError(f'--seed={request.seed}: must be between 0 and 2^32 - num_seeds')
    task, note = tasks.resolve(request.env)
    changes = dict(request.settings)
    task_changes = {k: _task_value(k, changes.pop(k)) for k in TASK_SETTINGS if k in changes}
    if task_changes:
        task = tasks.adjust(task, **task_changes)
    for name in ('steps', 'pretrain_steps', 'batch_size', 'eval_every'):
        value = getattr(request, name)
        if value is not None:
            if name in changes:
                raise UserError(f'{name} is given by --{name} and by --set: keep one')
            changes[name] = value
    config = task_config(request.agent, task.name, changes)
    return Plan(
        request=request,
        task=task,
        note=note,
        config=config,
        lanes=_lanes(request, config),
        eval_episodes=request.eval_episodes or task.eval_episodes,
    )


def _task_value(name: str, value: Any) -> Any:
    return {'true': True, 'false': False}.get(str(value).lower(), value)


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


def request_of_run(run_dir: pathlib.Path, asked: dict[str, Any]) -> Request:
    """The request that a run was started with, changed by what is `asked` for explicitly now."""
    recorded = read_run(run_dir)['request']
    settings = {**recorded['settings'], **asked.get('settings', {})}
    return Request(**{**recorded, **asked, 'settings': settings})


def create_run(run_dir: pathlib.Path, description: dict[str, Any]) -> None:
    """Makes the run folder with its `config.json`, at once or not at all; never over another."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    if run_dir.exists():
        raise UserError(
            f'{run_dir} exists and is never overwritten: add --resume to go on with it, '
            'or name another folder with --out'
        )
    new = run_dir.parent / f'.{run_dir.name}.{os.getpid()}'
    new.mkdir()
    (new / 'config.json').write_text(json.dumps(description, indent=2) + '\n')
    new.rename(run_dir)
