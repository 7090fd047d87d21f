"""The registry of algorithms: the package's own, and those that users add."""

import dataclasses
import importlib
import importlib.util
import os
import pathlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeGuard

from dtql_jax.agents import settings
from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.bc import BC
from dtql_jax.agents.diffusion_ql import DiffusionQL
from dtql_jax.agents.dql_kl import DQLKL
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.fql import FQL
from dtql_jax.agents.idql import IDQL
from dtql_jax.agents.ifql import IFQL
from dtql_jax.agents.iql import IQL
from dtql_jax.agents.rebrac import ReBRAC
from dtql_jax.agents.srpo import SRPO
from dtql_jax.agents.tables import (
    bc,
    diffusion_ql,
    dql_kl,
    dtql,
    fql,
    idql,
    ifql,
    iql,
    rebrac,
    srpo,
    td3_bc,
)
from dtql_jax.agents.td3_bc import TD3BC
from dtql_jax.types import UserError, user_path, why

Table = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Registered:
    """An algorithm: its class, and its settings by task (see `dtql_jax.agents.tables`)."""

    agent: type[Agent]
    table: Table


AGENTS: dict[str, Registered] = {
    'dtql': Registered(DTQL, dtql.TABLE),
    'diffusion_ql': Registered(DiffusionQL, diffusion_ql.TABLE),
    'dql_kl': Registered(DQLKL, dql_kl.TABLE),
    'idql': Registered(IDQL, idql.TABLE),
    'srpo': Registered(SRPO, srpo.TABLE),
    'iql': Registered(IQL, iql.TABLE),
    'fql': Registered(FQL, fql.TABLE),
    'ifql': Registered(IFQL, ifql.TABLE),
    'td3_bc': Registered(TD3BC, td3_bc.TABLE),
    'rebrac': Registered(ReBRAC, rebrac.TABLE),
    'bc': Registered(BC, bc.TABLE),
}


def register_agent(name: str, agent: type[Agent], table: Table | None = None) -> type[Agent]:
    """Registers an algorithm of your own under `name`.

    Registering the same class again replaces its table.

    Args:
        name: the name for `run` and the command line.
        agent: a subclass of `Agent`. Its `config_class` holds the settings.
        table: settings by task that differ from the defaults, see `dtql_jax.agents.tables`.

    Returns:
        `agent`.

    Raises:
        UserError: another agent has this name, `agent` is not a subclass of `Agent`, a setting is
            of a type that no flag can hold, or a row of the table has an unknown setting or a
            wrong value.
    """
    if not _is_agent(agent):
        raise UserError(f'agent {name!r}: {agent!r} is no subclass of dtql_jax.Agent')
    if name in AGENTS and _origin(AGENTS[name].agent) != _origin(agent):
        raise UserError(f'there is an agent {name!r} already: register yours under another name')
    for setting, kind in settings.kinds(agent.config_class).items():
        if kind not in settings.NOUNS:
            raise UserError(
                f'agent {name!r}: its setting {setting!r} has the type {kind}; use int, float, '
                'bool or str'
            )
    rows = {}
    for row, values in (table or {}).items():
        try:
            rows[row] = settings.parse_all(agent.config_class, values)
            agent.config_class(**rows[row])  # checks what only several settings together show
        except UserError as error:
            raise UserError(f'agent {name!r}, row {row!r} of its table: {error}') from None
    AGENTS[name] = Registered(agent, rows)
    return agent


def find_agent(name: str, file: str | None = None) -> Registered:
    """Finds an algorithm by its name, or by `module:Class` or `path/to/file.py:Class`.

    A class that is found by its module or file is registered under `name`. Its table is the
    module's `TABLE`, if there is one. Modules are looked for in the working directory too.

    Args:
        name: the name, or where the class is.
        file: the file that defined the class when a run was started. It is imported if `name`
            alone finds nothing.

    Raises:
        UserError: the algorithm, the module, the file or the class does not exist.
    """
    where, colon, attribute = name.rpartition(':')
    if name not in AGENTS and not colon and file is not None:
        _import_file(file)  # this registers the name
    if name in AGENTS:
        return AGENTS[name]
    if not colon:
        raise UserError(
            f'unknown agent {name!r}; nearest: {settings.nearest(name, AGENTS)} '
            '(an agent of your own: `agent`=my_module:MyAgent)'
        )
    module = import_own(where, file)
    agent = getattr(module, attribute, None)
    if not _is_agent(agent):
        raise UserError(f'`agent`={name}: {where} has no subclass of dtql_jax.Agent {attribute!r}')
    register_agent(name, agent, getattr(module, 'TABLE', None))
    return AGENTS[name]


def agent_file(agent: type[Agent]) -> str | None:
    """The absolute path of the file that defines a user's agent; None for the package's own."""
    path = getattr(sys.modules[agent.__module__], '__file__', None)
    if path is None or agent.__module__.startswith('dtql_jax.'):
        return None
    return os.path.abspath(path)


def task_config(
    agent: str,
    rows: str | Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    others: Sequence[str] = (),
) -> Config:
    """The settings of an algorithm for a task: its defaults, a row of its table, then `changes`.

    Args:
        agent: the name of an algorithm, see `find_agent`.
        rows: one or more names of rows. The first that the table has is used (`Task.rows`).
        changes: values by name. Text is parsed.
        others: more names that the message about an unknown setting may suggest.

    Raises:
        UserError: the agent or a setting is unknown, or a value has another type or is out of
            range.
    """
    found = find_agent(agent)
    row = row_of(agent, rows)
    values = {} if row is None else found.table[row]
    config_class = found.agent.config_class
    return config_class(**{**values, **settings.parse_all(config_class, changes or {}, others)})


def row_of(agent: str, rows: str | Sequence[str]) -> str | None:
    """The first of `rows` that the agent's table has, or None."""
    table = find_agent(agent).table
    rows = (rows,) if isinstance(rows, str) else rows
    return next((row for row in rows if row in table), None)


def _is_agent(value: Any) -> TypeGuard[type[Agent]]:
    return isinstance(value, type) and issubclass(value, Agent)


def _origin(agent: type[Agent]) -> tuple[str, str]:
    """Identifies a class by file and name, so that a second import of it is the same class."""
    return agent_file(agent) or agent.__module__, agent.__qualname__


def import_own(where: str, file: str | None = None) -> ModuleType:
    """Imports a user's module by its name or path, or `file` if there is no such module.

    Raises:
        UserError: there is no such module or file, or importing it fails.
    """
    if where.endswith('.py'):
        return _import_file(where if pathlib.Path(where).is_file() or file is None else file)
    try:
        return _import_from(os.getcwd(), where)
    except ModuleNotFoundError as error:
        if not f'{where}.'.startswith(f'{error.name}.'):
            raise UserError(f'{where} imports {error.name!r}, which is not installed') from error
        if file is not None:
            return _import_file(file)
        raise UserError(
            f'there is no module {where!r} in the working directory or among the installed '
            'packages: write `agent`=path/to/file.py:MyAgent'
        ) from None


def _import_file(file: str) -> ModuleType:
    """Imports a file as a top-level module of its name. A file imported before is not run again."""
    path = user_path('agent', file).resolve()
    if not path.is_file():
        raise UserError(f'there is no file {path}, which should define the agent: restore the file')
    for module in list(sys.modules.values()):
        if (known := getattr(module, '__file__', None)) and os.path.realpath(known) == str(path):
            return module
    if '.' in path.stem:
        raise UserError(f'{path}: the name of a module has no dots; rename the file')
    if path.stem in sys.modules or _is_elsewhere(importlib.util.find_spec(path.stem), path):
        raise UserError(f'{path}: there is another module {path.stem!r}; rename the file')
    return _import_from(str(path.parent), path.stem)


def _is_elsewhere(spec: ModuleSpec | None, path: pathlib.Path) -> bool:
    """Whether a module of this name exists in another file."""
    return (
        spec is not None and spec.origin is not None and os.path.realpath(spec.origin) != str(path)
    )


def _import_from(folder: str, name: str) -> ModuleType:
    """Imports the module `name`, which may be in `folder`."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except (UserError, ModuleNotFoundError):
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f'{_place(error, name)}: {why(error)}: mend the module') from error


def _place(error: BaseException, name: str) -> str:
    """The file and line of the user's code that made the import of a module fail."""
    if isinstance(error, SyntaxError) and error.filename:
        return f'{error.filename}, line {error.lineno}'
    frames = [
        f'{frame.f_code.co_filename}, line {line}'
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get('__name__') == name
    ]
    return frames[-1] if frames else name
