"""dtql_jax: Diffusion Trusted Q-Learning in JAX, and what it is compared with.

import dtql_jax

result = dtql_jax.run({'env': 'pointmaze-umaze', 'num_seeds': 2}, out='runs/demo')
policy = dtql_jax.load_policy('runs/demo', which='best')
action = policy(obs)
"""

import importlib
from importlib import metadata

__version__ = metadata.version('dtql_jax')  # setup.py states it

# Loaded at first use, so that the simulators' worker processes can do without jax.
_PUBLIC = {
    'run': 'dtql_jax.runner',
    'Request': 'dtql_jax.plan',
    'load_policy': 'dtql_jax.policy',
    'Task': 'dtql_jax.tasks',
    'register': 'dtql_jax.tasks',
    'UserError': 'dtql_jax.types',
}
__all__ = ['Request', 'Task', 'UserError', 'load_policy', 'register', 'run']


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_PUBLIC[name]), name)
