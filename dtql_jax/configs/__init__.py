"""Settings: the per-task tables of each algorithm, and `--set name=value` on top of them."""

import contextlib
import dataclasses
import difflib
import importlib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from dtql_jax.agents import AGENTS, Config
from dtql_jax.types import UserError

POSITIVE = ('steps', 'batch_size', 'eval_every', 'hidden', 'candidates')
SHARES = ('discount', 'expectile', 'tau')
_NOUN = {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text'}
_BOOL = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}

# Beginnings of the rows that are ours: neither DTQL's nor Diffusion-QL's released code has them.
OURS = (
    'pointmaze', 'ogbench', 'door', 'hammer', 'relocate', 'pen-expert', 'halfcheetah-expert',
    'hopper-expert', 'walker2d-expert',
)  # fmt: skip


def hands(*, human: dict[str, Any], cloned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of every hand by those that were released for pen; an expert's data as cloned ones."""
    rows = {'human': human, 'cloned': cloned, 'expert': cloned}
    names = ('pen', 'door', 'hammer', 'relocate')
    return {f'{hand}-{kind}': row for hand in names for kind, row in rows.items()}


def task_config(
    agent: str,
    task: str,
    changes: Mapping[str, Any] | None = None,
    others: Iterable[str] = (),
) -> Config:
    """The agent's settings for a task: its defaults, its table's row, then `changes`.

    A task without a row gets the defaults. Raises UserError for an unknown agent, and for changes
    with an unknown name, a value of the wrong type or one out of range. `others` are names that are
    settings too, though not the agent's: the message about an unknown name may suggest them.
    """
    if agent not in AGENTS:
        raise UserError(f'unknown agent {agent!r}; there are: {", ".join(AGENTS)}')
    config_class = AGENTS[agent].config_class
    changes = {
        name: typed(config_class, name, value, others) for name, value in (changes or {}).items()
    }
    config = config_class(**{**_table(agent).get(task, {}), **changes})
    for name, value in dataclasses.asdict(config).items():
        if name in POSITIVE and value < 1:
            raise UserError(f'{name}={value}: must be at least 1')
        if isinstance(value, int | float) and value < 0:
            raise UserError(f'{name}={value}: must not be negative')
        if name in SHARES and value > 1:
            raise UserError(f'{name}={value}: must be between 0 and 1')
    return config


def has_row(agent: str, task: str) -> bool:
    """Whether the agent's table has settings for the task."""
    return task in _table(agent)


def _table(agent: str) -> dict[str, dict[str, Any]]:
    return importlib.import_module(f'dtql_jax.configs.{agent}').TABLE


def as_bool(value: Any) -> Any:
    """True or False for any way of writing them; anything else as it is."""
    return _BOOL.get(str(value).lower(), value)


def typed(config_class: type, name: str, value: Any, others: Iterable[str] = ()) -> Any:
    """`value`, which may be text, as the type of the config field `name`; UserError otherwise."""
    types = typing.get_type_hints(config_class)
    types = {field.name: types[field.name] for field in dataclasses.fields(config_class)}
    if name not in types:
        names = sorted([*types, *others])
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
        raise UserError(f'unknown setting {name!r}; nearest: {", ".join(near)}')
    kind, given = types[name], value
    if kind is bool:
        value = as_bool(value)
    elif not isinstance(value, bool):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            # '3e5' is a fine number of steps; 2.5 is not.
            if kind is float or (kind is int and float(value).is_integer()):
                value = kind(float(value)) if isinstance(value, str) else kind(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f'{name}={given!r}: not {_NOUN.get(kind, kind.__name__)}')
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
