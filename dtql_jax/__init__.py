"""Offline reinforcement learning with diffusion policies in JAX, many seeds in one program.

    import dtql_jax

    result = dtql_jax.run({'env': 'pointmaze-umaze', 'num_seeds': 2}, out='runs/demo')
    policy = dtql_jax.load_policy('runs/demo', which='best')
    action = policy(obs)

`__all__` is the public interface. Everything else may change without notice. `import dtql_jax`
loads no jax: each name is imported at its first use.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtql_jax.agents.base import Agent, Config, State
    from dtql_jax.agents.registry import register_agent
    from dtql_jax.agents.settings import setting
    from dtql_jax.runs.export.write import export
    from dtql_jax.runs.plan import Request
    from dtql_jax.runs.policy import load_policy
    from dtql_jax.runs.result import Interrupted, Result
    from dtql_jax.runs.run import run
    from dtql_jax.runs.trust import trust_region
    from dtql_jax.studies.results import load_results
    from dtql_jax.studies.sweep import sweep
    from dtql_jax.tasks.registry import register_task
    from dtql_jax.tasks.task import Task
    from dtql_jax.types import Lane, Phase, Rare, Spec, Transition, UserError

__version__ = metadata.version('dtql_jax')  # setup.py states it

# name -> the module that defines it
_HOMES = {
    # train, and use what was trained
    'run': 'runs.run',
    'Request': 'runs.plan',
    'Result': 'runs.result',
    'Interrupted': 'runs.result',
    'load_policy': 'runs.policy',
    'trust_region': 'runs.trust',
    'export': 'runs.export.write',
    # many runs
    'sweep': 'studies.sweep',
    'load_results': 'studies.results',
    # a task of your own
    'Task': 'tasks.task',
    'register_task': 'tasks.registry',
    # an agent of your own
    'Agent': 'agents.base',
    'Config': 'agents.base',
    'setting': 'agents.settings',
    'State': 'agents.base',
    'Phase': 'types',
    'Transition': 'types',
    'Rare': 'types',
    'Lane': 'types',
    'Spec': 'types',
    'register_agent': 'agents.registry',
    'UserError': 'types',
}
__all__ = [
    'Agent',
    'Config',
    'Interrupted',
    'Lane',
    'Phase',
    'Rare',
    'Request',
    'Result',
    'Spec',
    'State',
    'Task',
    'Transition',
    'UserError',
    'export',
    'load_policy',
    'load_results',
    'register_agent',
    'register_task',
    'run',
    'setting',
    'sweep',
    'trust_region',
]


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__() -> list[str]:
    """The public names, and those that every module has."""
    return sorted([*__all__, *(name for name in globals() if name.startswith('__'))])
