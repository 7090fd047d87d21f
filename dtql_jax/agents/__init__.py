"""The registry of algorithms: one line each. Its per-task settings are `configs/<name>.py`."""

from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.dtql import DTQL

AGENTS: dict[str, type[Agent]] = {
    'dtql': DTQL,
}

__all__ = ['AGENTS', 'Agent', 'Config']
