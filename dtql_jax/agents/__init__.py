"""The registry of algorithms: one line each. Its per-task settings are `configs/<name>.py`."""

from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.bc import BC
from dtql_jax.agents.diffusion_ql import DiffusionQL
from dtql_jax.agents.dql_kl import DQLKL
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.idql import IDQL
from dtql_jax.agents.iql import IQL
from dtql_jax.agents.srpo import SRPO

AGENTS: dict[str, type[Agent]] = {
    'dtql': DTQL,
    'diffusion_ql': DiffusionQL,
    'dql_kl': DQLKL,
    'idql': IDQL,
    'srpo': SRPO,
    'iql': IQL,
    'bc': BC,
}

__all__ = ['AGENTS', 'Agent', 'Config']
