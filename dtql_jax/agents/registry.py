"""The registry of algorithms: one line each, and those that users add."""

import dataclasses
import importlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dtql_jax.agents import settings
from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.bc import BC
from dtql_jax.agents.diffusion_ql import DiffusionQL
from dtql_jax.agents.dql_kl import DQLKL
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.idql import IDQL
from dtql_jax.agents.iql import IQL
from dtql_jax.agents.srpo import SRPO
from dtql_jax.agents.tables import bc, diffusion_ql, dql_kl, dtql, idql, iql, srpo
from dtql_jax.types import UserError

Table = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Registered:
    """An algorithm: its class, and its settings per task."""

    agent: type[Agent]
    table: Table


AGENTS: dict[str, Registered] = {
    'dtql': Registered(DTQL, dtql.TABLE),
    'diffusion_ql': Registered(DiffusionQL, diffusion_ql.TABLE),
    'dql_kl': Registered(DQLKL, dql_kl.TABLE),
    'idql': Registered(IDQL, idql.TABLE),
    'srpo': Registered(SRPO, srpo.TABLE),
    'iql': Registered(IQL, iql.TABLE),
    'bc': Registered(BC, bc.TABLE),
}


def register_agent(name: str, agent: type[Agent], table: Table | None = None) -> type[Agent]:
    """Adds an algorithm of your own under `name`.

    Args:
        name: what `run` and the command line call it.
        agent: a subclass of `Agent` whose `config_class` holds its settings.
        table: settings that differ from the defaults, by task; see `dtql_jax.agents.tables`.

    Returns:
        `agent`.

    Raises:
        UserError: the name belongs to another agent, the class is no agent, or a row of the table
            is no valid set of settings.
    """
    if not (isinstance(agent, type) and issubclass(agent, Agent)):
        raise UserError(f'agent {name!r}: {agent!r} is no subclass of dtql_jax.Agent')
    there = AGENTS.get(name)
    if there is not None and _origin(there.agent) != _origin(agent):
        raise UserError(f'there is an agent {name!r} already: register yours under another name')
    for row, values in (table or {}).items():
        try:
            agent.config_class(**settings.parse_all(agent.config_class, values))
        except UserError as error:
            raise UserError(f'agent {name!r}, row {row!r} of its table: {error}') from None
    AGENTS[name] = Registered(agent, table or {})
    return agent


def find_agent(name: str, file: str | None = None) -> Registered:
    """The algorithm `name`: a registered one, or `module:Class` or `file.py:Class` of your own.

    Args:
        name: the name, or where the class is. A module is looked for in the working directory too.
            Its table is the module's `TABLE`, if it has one.
        file: the file that held the class when a run was made: read where `name` alone leads
            nowhere.

    Raises:
        UserError: there is no such algorithm, module or class.
    """
    if name in AGENTS:
        return AGENTS[name]
    if ':' not in name:
        if file is not None:
            _load(file)  # its import registers the name
        if name in AGENTS:
            return AGENTS[name]
        raise UserError(
            f'unknown agent {name!r}; nearest: {settings.nearest(name, AGENTS)} '
            '(an agent of your own: `agent`=my_module:MyAgent)'
        )
    where, _, attribute = name.rpartition(':')
    module = _import(where, file)
    agent = getattr(module, attribute, None)
    if not (isinstance(agent, type) and issubclass(agent, Agent)):
        raise UserError(f'`agent`={name}: {where} has no subclass of dtql_jax.Agent {attribute!r}')
    register_agent(name, agent, getattr(module, 'TABLE', None))
    return AGENTS[name]


def agent_file(agent: type[Agent]) -> str | None:
    """The file that defines a user's own agent, as a run records it; None for this package's."""
    module = sys.modules[agent.__module__]
    path = getattr(module, '__file__', None)
    if path is None or agent.__module__.startswith('dtql_jax.'):
        return None
    return os.path.abspath(path)


def task_config(
    agent: str,
    rows: str | Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    others: Sequence[str] = (),
) -> Config:
    """The settings of an algorithm for a task: defaults, the table's row, then `changes`.

    Args:
        agent: a name that `find_agent` knows.
        rows: a row's name or several, of which the first that the table has counts (`Task.rows`).
        changes: values by name, which may be text.
        others: further names that a message about an unknown one may suggest.

    Raises:
        UserError: the agent or a name is unknown, or a value is of the wrong type or out of range.
    """
    found = find_agent(agent)
    config_class = found.agent.config_class
    row = found.table.get(row_of(agent, rows) or '', {})
    return config_class(**{**row, **settings.parse_all(config_class, changes or {}, others)})


def row_of(agent: str, rows: str | Sequence[str]) -> str | None:
    """The first of `rows` that the agent's table has; None if it has none."""
    table = find_agent(agent).table
    rows = (rows,) if isinstance(rows, str) else rows
    return next((row for row in rows if row in table), None)


def _origin(agent: type[Agent]) -> tuple[str, str]:
    """What two imports of the same class share, `python file.py` and `import file` among them."""
    return agent_file(agent) or agent.__module__, agent.__qualname__


def _import(where: str, file: str | None) -> Any:
    """The module of that name or file."""
    if where.endswith('.py'):
        return _load(where if pathlib.Path(where).is_file() or file is None else file)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a script's own folder may be another
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name != where.partition('.')[0] and error.name != where:
            raise UserError(f'{where} imports {error.name!r}, which is not installed') from error
        if file is not None:
            return _load(file)
        raise UserError(
            f'there is no module {where!r} in the working directory or among the installed '
            'packages: write `agent`=path/to/file.py:MyAgent'
        ) from None


def _load(file: str) -> Any:
    """The module in a file, imported under the file's name, so that other processes find it."""
    path = pathlib.Path(file).resolve()
    if not path.is_file():
        raise UserError(f'the agent is defined in {path}, which does not exist: restore the file')
    for module in list(sys.modules.values()):
        if getattr(module, '__file__', None) and os.path.abspath(module.__file__) == str(path):
            return module
    if path.stem in sys.modules or importlib.util.find_spec(path.stem) is not None:
        raise UserError(f'{path}: there is another module {path.stem!r}; rename the file')
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)
