"""Settings: the per-task tables of each algorithm, and `--set name=value` on top of them."""

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from dtql_jax.agents import AGENTS, Config
from dtql_jax.types import UserError

_BOOL = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


def task_config(agent: str, task: str, changes: Mapping[str, Any] | None = None) -> Config:
    """The agent's settings for a task: its defaults, its table's row, then `changes`.

    A task without a row gets the defaults. Raises UserError for an unknown agent, and for changes
    with an unknown name or a value of the wrong type.
    """
    if agent not in AGENTS:
        raise UserError(f'unknown agent {agent!r}; there are: {", ".join(AGENTS)}')
    config_class = AGENTS[agent].config_class
    changes = {name: typed(config_class, name, value) for name, value in (changes or {}).items()}
    config = config_class(**{**_table(agent).get(task, {}), **changes})
    for name in ('steps', 'batch_size', 'eval_every'):
        if getattr(config, name) < 1:
            raise UserError(f'{name}={getattr(config, name)}: must be at least 1')
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, (int, float)) and not value >= 0:
            raise UserError(f'{name}={value}: must not be negative')
    return config


def has_row(agent: str, task: str) -> bool:
    """Whether the agent's table has settings for the task."""
    return task in _table(agent)


def _table(agent: str) -> dict[str, dict[str, Any]]:
    return importlib.import_module(f'dtql_jax.configs.{agent}').TABLE


def typed(config_class: type, name: str, value: Any) -> Any:
    """`value`, which may be text, as the type of the config field `name`; UserError otherwise."""
    types = typing.get_type_hints(config_class)
    types = {field.name: types[field.name] for field in dataclasses.fields(config_class)}
    if name not in types:
        near = difflib.get_close_matches(name, types, n=3, cutoff=0.4) or sorted(types)
        raise UserError(f'unknown setting {name!r}; nearest: {", ".join(near)}')
    kind = types[name]
    if kind is bool:
        value = _BOOL.get(str(value).lower(), value)
    elif not isinstance(value, bool):
        try:
            # '3e5' is a fine number of steps; 2.5 is not.
            number = kind(float(value)) if kind is int else kind(value)
            value = number if kind is str or number == float(value) else value
        except (ValueError, TypeError, OverflowError):
            pass
    if not isinstance(value, kind) or value != value:
        raise UserError(f'{name}={value!r}: not a {kind.__name__}')
    return value


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`['alpha=0.5', ...]` as a dict; UserError where there is no `=`, or a name twice."""
    pairs: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition('=')
        if not equals or not name:
            raise UserError(f'--set {setting}: write --set name=value')
        if name in pairs:
            raise UserError(f'--set {name} is given twice')
        pairs[name] = value
    return pairs
