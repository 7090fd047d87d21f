"""The request of a user and the plan of a run, made before anything is loaded or compiled.

A `Request` holds what the user asks for. A `Plan` adds the defaults of the task and the agent.
"""

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
from dtql_jax.runs.task_settings import TaskSettings, check_online, episodes_of
from dtql_jax.tasks import registry, task
from dtql_jax.types import Lane, UserError, user_path

MOST_EPISODES = 1_000_000  # each takes memory from the start of an evaluation on
FREE = ('settings', 'variants', 'log_to')  # fields of a request that are no plain values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request(Settings):
    """The request of a run; None stands for the default of the task or the machine.

    Args:
        settings: settings of the agent and of the task, by name.
        variants: groups of lanes that differ in float settings, by the label that tables show:
            `{'weak': {'alpha': 0.1}, 'strong': {'alpha': 10.0}}` trains every seed of both in one
            program.
        log_to: further logs, of 'wandb' and 'tensorboard'.

    The other fields state their own meaning.
    """

    env: str = setting(
        'pointmaze-umaze', "task, or 'minari:<dataset id>' or 'files:<path>' for data of your own"
    )
    agent: str = setting('dtql', "algorithm, or 'my_module:MyAgent' for one of your own")
    num_seeds: int = setting(2, 'seeds trained at once', least=1, most=10_000)
    seed: int = setting(0, 'the first seed; the others follow it')
    eval_episodes: int | None = setting(
        None, 'episodes per evaluation and seed; 0: no evaluation', least=0, most=MOST_EPISODES
    )
    source: str | None = setting(None, 'where the data of the task come from', choices=task.SOURCES)
    dataset_path: str | None = setting(
        None,
        'data to use instead: Minari folder, .hdf5, .npz, .csv, .parquet, or a folder of them',
    )
    init_from: str | None = setting(
        None, 'run folder: each seed starts from the last networks of the same seed there'
    )
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    # These change how the run goes, and none of its results.
    eval_envs: int | None = setting(
        None, 'simulators side by side (speed only, no result)', least=1
    )
    eval_timeout: float = setting(
        600.0, 'seconds that one step or reset of the simulators may take; 0: no limit'
    )
    overlap: bool | None = setting(
        None, 'train on while episodes are played (default: not on a CPU; no result depends on it)'
    )
    log_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_free(self.settings, self.variants, self.log_to)
        object.__setattr__(self, 'log_to', tuple(self.log_to))
        # Absolute, since a resume or an evaluation may start in another folder.
        for name in ('dataset_path', 'init_from'):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(user_path(name, given).resolve()))
        object.__setattr__(self, 'env', registry.absolute(self.env))
        where, _, attribute = self.agent.rpartition(':')
        if where.endswith('.py'):
            path = user_path('agent', where).resolve()
            object.__setattr__(self, 'agent', f'{path}:{attribute}')
        if self.seed + self.num_seeds > 2**32:
            raise UserError(f'`seed`={self.seed}: the seeds must stay below 2^32')


TASK_SETTINGS = tuple(settings.kinds(TaskSettings))
OF_ANY_RUN = (*settings.kinds(Request), *TASK_SETTINGS)  # names that no setting of an agent has
CLONE = 'clone'  # the label of the lanes that `clone_seeds` adds


@dataclasses.dataclass(frozen=True)
class Plan:
    """A request with every default filled in.

    `origin` names the checkpoint that the networks start from: the `run` folder, its `step` and the
    `sha256` of its arrays. It is known once that run was read.
    """

    request: Request
    task: task.Task
    note: str | None
    config: Config
    lanes: tuple[Lane, ...]
    eval_episodes: int
    origin: Mapping[str, Any] | None = None

    @property
    def agent(self) -> type[Agent]:
        """The class of the algorithm."""
        return find_agent(self.request.agent).agent

    def identity(self) -> dict[str, Any]:
        """All that decides a run's numbers, as JSON has it; a resume must match it."""
        fields = {
            'agent': label(self.request.agent),
            'task': dataclasses.asdict(self.task),
            'config': dataclasses.asdict(self.config),
            'lanes': [dataclasses.asdict(lane) for lane in self.lanes],
            'eval_episodes': self.eval_episodes,
        }
        if self.origin is not None:
            fields['init_from'] = dict(self.origin)
        return json.loads(json.dumps(fields))  # tuples become lists, as in a file

    def run_dir(self) -> pathlib.Path:
        """The default folder of the run."""
        asked = self.request
        parts = [asked.env, *([asked.source] if asked.source else []), label(asked.agent)]
        return pathlib.Path('runs', re.sub(r'[^\w.-]+', '-', '-'.join(parts)))


def label(agent: str) -> str:
    """The name of an agent in tables: `MyAgent` for `my_module:MyAgent`."""
    return agent.rpartition(':')[2]


def make_request(asked: Request | Mapping[str, Any]) -> Request:
    """The request for what is `asked`.

    Args:
        asked: fields of `Request` by name. Any other name is a setting of the agent or the maze.

    Raises:
        UserError: a value is of the wrong type or out of range, or a setting is given twice.
    """
    values, known = by_name(asked), settings.kinds(Request)
    fields = {name: values.pop(name) for name in list(values) if name in known}
    return Request(**fields, settings=values)


def by_name(asked: Request | Mapping[str, Any]) -> dict[str, Any]:
    """What is `asked` for, with its settings beside the fields of the request.

    Of a `Request` only the fields that differ from their defaults count as asked for.

    Raises:
        UserError: a setting is given twice.
    """
    if isinstance(asked, Request):
        default = Request()
        asked = {
            field.name: getattr(asked, field.name)
            for field in dataclasses.fields(Request)
            if getattr(asked, field.name) != getattr(default, field.name)
        }
    values = dict(asked)
    changes = values.pop('settings', {})
    _check_free(changes)
    for name in changes:
        if name in settings.kinds(Request):
            raise UserError(f'`{name}` is no setting of an agent: give it beside `settings`')
        if name in values:
            raise UserError(f'`{name}` is given twice: in `settings` and beside it')
    return {**values, **changes}


def _check_free(changes: Any, variants: Any = None, log_to: Any = ()) -> None:
    """Raises UserError where one of these fields of a request is of the wrong type."""
    if not isinstance(changes, Mapping):
        raise UserError(f'`settings`={changes!r}: give a dict of names and values')
    groups = variants.items() if isinstance(variants, Mapping) else [(variants, None)]
    if variants is not None and not all(
        isinstance(name, str) and name and isinstance(values, Mapping) for name, values in groups
    ):
        raise UserError(
            f"`variants`={variants!r}: give a dict such as {{'weak': {{'alpha': 0.1}}}}, from "
            'labels to float settings'
        )
    if isinstance(log_to, str) or not isinstance(log_to, Sequence):
        raise UserError(f'`log_to`={log_to!r}: give a list of names')


def make_plan(request: Request) -> Plan:
    """The plan for a request: names are resolved, defaults filled in, values checked.

    Raises:
        UserError: the request cannot be met.
    """
    agent = find_agent(request.agent).agent
    _check_names(request.agent, agent)
    found, note = registry.resolve(request.env, request.source, request.dataset_path)
    changes = dict(request.settings)
    of_task = {name: changes.pop(name) for name in TASK_SETTINGS if name in changes}
    of_task = settings.parse_all(TaskSettings, {**agent.task_settings, **of_task})
    if of_task:
        found = task.adjust(found, **of_task)
    config = task_config(request.agent, found.rows, changes, OF_ANY_RUN)
    check_online(found, agent, config, request.dataset_path)
    variants = {
        name: lane_settings(name, agent, config, values)
        for name, values in request.variants.items()
    }
    # The request records values of the right type, in whatever form they were given.
    typed = {**of_task, **{name: getattr(config, name) for name in changes}}
    own = request.env.startswith((registry.OWN, registry.FILES))
    env = found.name if own else request.env  # the folder in full
    request = dataclasses.replace(request, env=env, settings=typed, variants=variants)
    return Plan(
        request=request,
        task=found,
        note=note if request.dataset_path is None else None,  # it tells of the task's own sets
        config=config,
        lanes=_lanes(request, agent, config),
        eval_episodes=episodes_of(found, request.eval_episodes, request.dataset_path),
    )


def _check_names(name: str, agent: type[Agent]) -> None:
    """Raises UserError where a setting of the agent has a name that means something else."""
    for taken in settings.kinds(agent.config_class):
        if taken in OF_ANY_RUN:
            raise UserError(
                f'agent {name}: its setting {taken!r} has the name of something that every run '
                'may be asked for; rename it'
            )


def _lanes(request: Request, agent: type[Agent], config: Config) -> tuple[Lane, ...]:
    """The lanes of each variant (without variants: of the agent), then those of the clone."""
    variants = dict(request.variants) or {label(request.agent): {}}
    seeds = dict.fromkeys(variants, request.num_seeds)
    if config.clone_seeds:
        if agent.clone is None:
            raise UserError(
                f'`clone_seeds`={config.clone_seeds}: {request.agent} has no settings that make '
                'it a clone; leave it out'
            )
        if CLONE in variants:
            raise UserError(
                f'`clone_seeds`={config.clone_seeds}: its lanes are called {CLONE!r}; give the '
                'variant of that name another one'
            )
        variants[CLONE] = lane_settings(CLONE, agent, config, agent.clone)
        seeds[CLONE] = config.clone_seeds
    return tuple(
        Lane(name, request.seed + i, values)
        for name, values in variants.items()
        for i in range(seeds[name])
    )


def lane_settings(
    variant: str, agent: type[Agent], config: Config, values: Mapping[str, Any]
) -> dict[str, float]:
    """The settings of a variant's lanes, parsed and checked.

    Raises:
        UserError: a name is unknown or is the same for all lanes of a program, as all but float
            settings are, or the agent cannot take a value.
    """
    kinds = settings.kinds(type(config))
    for name in values:
        if name in OF_ANY_RUN or kinds.get(name, float) is not float:
            raise UserError(
                f'variant {variant!r}: {name} is the same for all lanes of a run; start a run of '
                f'its own for it. These can differ: {", ".join(config.floats())}'
            )
        if name == 'discount' and ('return_to_go' in agent.columns or config.horizon_length > 1):
            raise UserError(
                f'variant {variant!r}: discount decides the returns in the data, which all lanes '
                'share; start a run of its own for it'
            )
    try:
        parsed = settings.parse_all(type(config), values)
        dataclasses.replace(config, **parsed)  # checks what several settings decide together
    except UserError as error:
        raise UserError(f'variant {variant!r}: {error}') from None
    return parsed
