"""Diffusion Trusted Q-Learning in JAX, and what it is compared with: many seeds in one program.

    import dtql_jax

    result = dtql_jax.run({'env': 'pointmaze-umaze', 'num_seeds': 2}, out='runs/demo')
    policy = dtql_jax.load_policy('runs/demo', which='best')
    action = policy(obs)

`__all__` is the public interface. All else may change without notice.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtql_jax.agents.base import Agent, Config, State
    from dtql_jax.agents.registry import register_agent
    from dtql_jax.agents.settings import setting
    from dtql_jax.runs.plan import Request
    from dtql_jax.runs.policy import load_policy
    from dtql_jax.runs.run import Interrupted, Result, run
    from dtql_jax.tasks.registry import register_task
    from dtql_jax.tasks.task import Task
    from dtql_jax.types import Lane, Phase, Rare, Spec, Transition, UserError

__version__ = metadata.version('dtql_jax')  # setup.py states it

# Imported at first use: the simulators' worker processes do without jax.
_HOMES = {
    'run': 'runs.run',  # trains, evaluates and reports
    'Request': 'runs.plan',  # what `run` may be asked for
    'Result': 'runs.run',  # what it returns
    'Interrupted': 'runs.run',  # what it raises after a signal
    'load_policy': 'runs.policy',  # a trained policy, numpy to numpy
    'Task': 'tasks.task',  # what one trains on and is evaluated in
    'register_task': 'tasks.registry',
    'Agent': 'agents.base',  # what an algorithm derives from
    'Config': 'agents.base',  # its settings
    'setting': 'agents.settings',  # one of them
    'State': 'agents.base',  # what training changes
    'Phase': 'types',  # a part of training
    'Transition': 'types',  # a dataset, or a batch
    'Rare': 'types',  # a metric that not every update makes
    'Lane': 'types',  # one training run of a program
    'Spec': 'types',  # sizes and action box of a task
    'register_agent': 'agents.registry',
    'UserError': 'types',  # a mistake that the user can mend
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
    'load_policy',
    'register_agent',
    'register_task',
    'run',
    'setting',
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
