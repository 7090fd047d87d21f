"""`Study`: what a study asks for, its file, and how two studies differ.

    env = ['hopper-medium', 'walker2d-medium']
    agent = ['dtql', 'diffusion_ql']
    num_seeds = 10
    steps = 20000
    [sweep]
    alpha = [0.5, 1, 5]
    [[override]]
    env = 'hopper-medium'
    alpha = 2.0

Every other name is a setting of an agent or a field of `Request`. Of values for one setting the
last counts, in this order: the study's, its sweep's, and those of each override that fits a job.
"""

import dataclasses
import json
import math
import pathlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dtql_jax.agents.settings import nearest
from dtql_jax.types import UserError, check_text, outside

LISTS = ('env', 'agent', 'modules')
TABLES = ('sweep', 'override')
WHERE = ('env', 'agent')  # the fields of an override that say for which jobs it is
SCALARS = (bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class Override:
    """Settings for the jobs of some tasks or agents; empty means all of them."""

    env: tuple[str, ...]
    agent: tuple[str, ...]
    settings: Mapping[str, Any]
    sweep: Mapping[str, tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study asks for.

    Args:
        env: the tasks.
        agent: the agents.
        settings: settings of the agents and fields of `Request`, for all jobs that have them.
        sweep: values to try, by setting. Those of float settings become lanes of one program,
            those of others jobs.
        override: settings for some of the jobs.
        modules: files or modules that every job imports first, which register tasks and agents.
    """

    env: tuple[str, ...]
    agent: tuple[str, ...] = ('dtql',)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sweep: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    override: tuple[Override, ...] = ()
    modules: tuple[str, ...] = ()


def study_from(fields: Mapping[str, Any]) -> Study:
    """The study of a file's or a dict's fields.

    Raises:
        UserError: a field has another form, is empty, or has a value twice.
    """
    values = dict(fields)
    env = _texts('env', values.pop('env', 'pointmaze-umaze'))
    agent = _texts('agent', values.pop('agent', 'dtql'))
    modules = _texts('modules', values.pop('modules', []), empty=True)
    sweep = _sweep('sweep', values.pop('sweep', {}))
    overrides = values.pop('override', [])
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise UserError(
            f'`override`={overrides!r}: give a list of tables, as [[override]] in a file'
        )
    override = tuple(_override(i, table) for i, table in enumerate(overrides, 1))
    settings = {name: _value(name, value) for name, value in values.items()}
    return Study(env, agent, settings, sweep, override, modules)


def as_fields(study: Study) -> dict[str, Any]:
    """The fields of a study as a file has them; `study_from` undoes it."""
    fields: dict[str, Any] = {'env': list(study.env), 'agent': list(study.agent)}
    if study.modules:
        fields['modules'] = list(study.modules)
    fields |= study.settings
    if study.sweep:
        fields['sweep'] = {name: list(values) for name, values in study.sweep.items()}
    if study.override:
        fields['override'] = [_override_fields(override) for override in study.override]
    return fields


def read_study(path: pathlib.Path) -> Study:
    """The study of a TOML file.

    Raises:
        UserError: the file cannot be read, or is no study.
    """
    with outside(f'{path} cannot be read', 'mend the file, or check the path'):
        fields = tomllib.loads(path.read_text(encoding='utf-8'))
    try:
        return study_from(fields)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None


def to_toml(fields: Mapping[str, Any]) -> str:
    """The text of a TOML file with these fields, which `tomllib` reads back as the same."""
    lines = [f'{_key(name)} = {_toml(v)}' for name, v in fields.items() if name not in TABLES]
    if 'sweep' in fields:
        lines += ['', '[sweep]', *_lines(fields['sweep'])]
    for override in fields.get('override', []):
        lines += ['', '[[override]]', *_lines({k: v for k, v in override.items() if k != 'sweep'})]
        if 'sweep' in override:
            lines += ['', '[override.sweep]', *_lines(override['sweep'])]
    return '\n'.join(lines) + '\n'


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What differs between the fields asked for now and those that a study has; '' if nothing."""
    asked, recorded = dict(_flat(ours)), dict(_flat(theirs))
    return '; '.join(
        f'{name}: the study has {_shown(recorded, name)}, asked for {_shown(asked, name)}'
        for name in sorted(asked.keys() | recorded.keys())
        if _shown(asked, name) != _shown(recorded, name)
    )


def check_once(name: str, values: Sequence[Any]) -> None:
    """Raises UserError where a value stands twice: 1 and 1.0 are one value, and 1 and true two."""
    seen = set()
    for value in values:
        same = (isinstance(value, bool), value)
        if same in seen:
            raise UserError(f'{name}: {value!r} stands there twice: remove one')
        seen.add(same)


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields, and those of tables, named like `sweep.alpha`."""
    for name, value in fields.items():
        if name == 'sweep':
            yield from ((f'sweep.{key}', values) for key, values in value.items())
        elif name == 'override':
            yield from ((f'override {i}', table) for i, table in enumerate(value, 1))
        else:
            yield name, value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else 'none'


def _texts(name: str, value: Any, empty: bool = False) -> tuple[str, ...]:
    """One text or a list of them, none of them twice."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UserError(f'`{name}`={value!r}: give a text or a list of texts')
    for text in texts:
        check_text(name, text)
    if not texts and not empty:
        raise UserError(f'`{name}` is empty: name at least one')
    check_once(name, texts)
    return tuple(texts)


def _sweep(name: str, table: Any) -> dict[str, tuple[Any, ...]]:
    """The grid of a table: at least one value of each setting, none of them twice."""
    if not isinstance(table, Mapping):
        raise UserError(f'{name}={table!r}: give a table of settings, each with a list of values')
    for setting, values in table.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f'{name}: {setting}={values!r}: give a list of values')
        if not values:
            raise UserError(f'{name}: {setting} has no values: give at least one')
        for value in values:
            _value(setting, value, in_list=True)
        check_once(f'{name}: {setting}', values)
    return {setting: tuple(values) for setting, values in table.items()}


def _override(number: int, table: Any) -> Override:
    """The override that a table describes."""
    what = f'override {number}'
    if not isinstance(table, Mapping):
        raise UserError(f'{what}: {table!r} is no table')
    values = dict(table)
    env, agent = (_texts(f'{what}: {name}', values.pop(name, []), empty=True) for name in WHERE)
    sweep = _sweep(f'{what}: sweep', values.pop('sweep', {}))
    for name in ('modules', 'num_seeds', 'seed'):
        if name in values:
            raise UserError(f'{what}: {name} is the same for all jobs: give it once for the study')
    if not env and not agent:
        raise UserError(f'{what} is for no task and no agent: give it an env or an agent')
    if not values and not sweep:
        raise UserError(f'{what} changes nothing: give it a setting, or remove it')
    return Override(env, agent, {n: _value(n, v) for n, v in values.items()}, sweep)


def _override_fields(override: Override) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in WHERE:
        if getattr(override, name):
            fields[name] = list(getattr(override, name))
    fields |= override.settings
    if override.sweep:
        fields['sweep'] = {name: list(values) for name, values in override.sweep.items()}
    return fields


def _value(name: str, value: Any, in_list: bool = False) -> Any:
    """A value of a setting; only `log_to` is a list."""
    if name == 'log_to' and not in_list:
        return list(_texts(name, value, empty=True))
    if name in ('settings', 'variants'):
        cure = 'give its settings beside the others' if name == 'settings' else 'use `sweep`'
        raise UserError(f'`{name}` is no setting of a study: {cure}')
    if not isinstance(value, SCALARS):
        cure = 'values to try belong into the table sweep' if isinstance(value, list) else (
            f'nearest: {nearest(name, (*LISTS, *TABLES))}'
        )  # fmt: skip
        raise UserError(f'`{name}`={value!r}: not a single value; {cure}')
    if isinstance(value, str):
        check_text(name, value)
    return value


# TOML, which the standard library reads and does not write.


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f'{_key(name)} = {_toml(value)}' for name, value in table.items()]


def _key(name: str) -> str:
    bare = name.isascii() and name.replace('_', '').replace('-', '').isalnum()
    return name if bare else _toml(name)


def _toml(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace('\x7f', '\\u007f')
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    return f'[{", ".join(_toml(item) for item in value)}]'
