"""From what a user asks for to what a run will do, before anything is loaded or compiled."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dtql_jax.agents import settings
from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.registry import find_agent, task_config
from dtql_jax.agents.settings import Settings, setting
from dtql_jax.tasks import registry, task
from dtql_jax.types import Lane, UserError

FREE = ('settings', 'variants', 'log_to')  # fields of a request that are no plain values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request(Settings):
    """What a user may ask for; None means the default of the task or the machine.

    `settings` are those of the agent and of the maze's goal, by name. `variants` are groups of
    lanes that differ in float settings: `{'weak': {'alpha': 0.1}, 'strong': {'alpha': 10.0}}`
    trains every seed of both in one program.
    """

    env: str = setting('pointmaze-umaze', "task, or 'minari:<dataset id>' for data of your own")
    agent: str = setting('dtql', "algorithm, or 'my_module:MyAgent' for one of your own")
    num_seeds: int = setting(2, 'seeds trained at once', least=1)
    seed: int = setting(0, 'the first seed; the others follow it')
    eval_episodes: int | None = setting(None, 'episodes per evaluation and seed', least=1)
    source: str | None = setting(None, 'where the data of the task come from', choices=task.SOURCES)
    dataset_path: str | None = setting(
        None, 'data to use instead: Minari folder, D4RL .hdf5 or OGBench .npz'
    )
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    # How it runs. None of these changes a result.
    eval_envs: int | None = setting(
        None, 'simulators side by side (speed only, no result)', least=1
    )
    overlap: bool | None = setting(
        None, 'train on while episodes are played (default: not on a CPU; no result depends on it)'
    )
    log_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed + self.num_seeds > 2**32:
            raise UserError(f'`seed`={self.seed}: the seeds must stay below 2^32')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """What may be changed of a maze."""

    goal: str | None = setting(None, 'what the goal of a maze is', choices=task.GOALS)
    success_ends: bool | None = setting(None, 'whether the return ends at the goal of a maze')


TASK_SETTINGS = tuple(settings.kinds(TaskSettings))


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request with every default filled in."""

    request: Request
    task: task.Task
    note: str | None
    config: Config
    lanes: tuple[Lane, ...]
    eval_episodes: int

    @property
    def agent(self) -> type[Agent]:
        """The class of the algorithm."""
        return find_agent(self.request.agent).agent

    def identity(self) -> dict[str, Any]:
        """All that decides a run's numbers, JSON-able: what a resume must match."""
        fields = {
            'agent': self.request.agent,
            'task': dataclasses.asdict(self.task),
            'config': dataclasses.asdict(self.config),
            'lanes': [dataclasses.asdict(lane) for lane in self.lanes],
            'eval_episodes': self.eval_episodes,
        }
        return json.loads(json.dumps(fields))  # tuples as lists: equal to what a file gives back

    def run_dir(self) -> pathlib.Path:
        """Where the run is kept unless the user says otherwise."""
        asked = self.request
        parts = [asked.env, *([asked.source] if asked.source else []), label(asked.agent)]
        return pathlib.Path('runs', re.sub(r'[^\w.-]+', '-', '-'.join(parts)))


def label(agent: str) -> str:
    """What tables call an agent: its name, or the class's own of `module:Class`."""
    return agent.rpartition(':')[2]


def make_request(asked: Mapping[str, Any]) -> Request:
    """A request for what is `asked`, by name.

    A name that is no field of `Request` is a setting of the agent or the task.

    Raises:
        UserError: a value is of the wrong type or out of range, or a setting is given twice.
    """
    asked = dict(asked)
    known = settings.kinds(Request)
    free = {name: asked.pop(name) for name in FREE if name in asked}
    if not isinstance(free.get('settings', {}), Mapping):
        raise UserError(f'settings={free["settings"]!r}: give a dict of names and values')
    values = {
        name: settings.parse(Request, name, value) for name, value in asked.items() if name in known
    }
    changes = {name: value for name, value in asked.items() if name not in known}
    for name in free.get('settings', {}):
        if name in known:
            raise UserError(f'{name!r} is no setting of an agent: give it beside `settings`')
        if name in changes:
            raise UserError(f'{name} is given twice: in `settings` and beside it')
    free['settings'] = {**changes, **free.get('settings', {})}
    if values.get('dataset_path') is not None:
        # Absolute, since a resume or an evaluation may start elsewhere.
        path = pathlib.Path(values['dataset_path']).expanduser().resolve()
        values['dataset_path'] = str(path)
    return Request(**values, **free)


def make_plan(request: Request, agent_file: str | None = None) -> Plan:
    """Resolves names and defaults and checks them.

    Args:
        request: what is asked for.
        agent_file: the file that held a user's own agent, where a run is read back.

    Raises:
        UserError: something of it cannot be done.
    """
    agent = find_agent(request.agent, agent_file).agent
    found, note = registry.resolve(request.env, request.source, request.dataset_path)
    changes = dict(request.settings)
    of_task = {name: changes.pop(name) for name in TASK_SETTINGS if name in changes}
    of_task = settings.parse_all(TaskSettings, of_task)
    if of_task:
        found = task.adjust(found, **of_task)
    others = (*TASK_SETTINGS, *settings.kinds(Request))
    config = task_config(request.agent, found.rows, changes, others)
    # Recorded as the values that they mean, whatever they were written as.
    typed = {**of_task, **{name: getattr(config, name) for name in changes}}
    return Plan(
        request=dataclasses.replace(request, settings=typed),
        task=found,
        note=note if request.dataset_path is None else None,  # it tells of the task's own sets
        config=config,
        lanes=_lanes(request, agent, config),
        eval_episodes=request.eval_episodes or found.eval_episodes,
    )


def _lanes(request: Request, agent: type[Agent], config: Config) -> tuple[Lane, ...]:
    """The lanes of each variant (without any: of the agent), then those of its clone."""
    variants = dict(request.variants) or {label(request.agent): {}}
    seeds = dict.fromkeys(variants, request.num_seeds)
    if config.clone_seeds:
        if agent.clone is None:
            raise UserError(
                f'`clone_seeds`={config.clone_seeds}: {request.agent} has no setting that makes it '
                'a clone; leave it out'
            )
        variants, seeds = {**variants, 'clone': agent.clone}, {**seeds, 'clone': config.clone_seeds}
    return tuple(
        Lane(name, request.seed + i, lane_settings(name, config, values))
        for name, values in variants.items()
        for i in range(seeds[name])
    )


def lane_settings(variant: str, config: Config, values: Mapping[str, Any]) -> dict[str, float]:
    """The settings of a lane of its own, checked as those of a whole run are.

    Raises:
        UserError: a name is unknown, is not a float setting, which alone can differ between the
            lanes of one program, or has a value that the agent cannot take.
    """
    types = settings.kinds(type(config))
    for name in values:
        if name in types and types[name] is not float:
            raise UserError(
                f'variant {variant!r}: {name} is compiled into the program and cannot differ '
                f'between lanes; start a run of its own for it. These can: '
                f'{", ".join(config.floats())}'
            )
    try:
        parsed = settings.parse_all(type(config), values)
        dataclasses.replace(config, **parsed)  # what only several settings together tell
    except UserError as error:
        raise UserError(f'variant {variant!r}: {error}') from None
    return parsed
