"""IQL's per-task settings, and ours for pointmaze.

The numbers are in the paper's section on D4RL and in its released code (09d7002): expectile 0.7 and
beta 3 for locomotion, 0.9 and 10 for AntMaze, 0.7 and 0.5 for Adroit and Kitchen.
"""

from dtql_jax.agents.tables import ANTMAZES, LOCOMOTION

_LOCOMOTION = {'reward': 'iql_locomotion'}
_ANTMAZE = {'reward': 'iql_antmaze', 'expectile': 0.9, 'beta': 10.0}
_CLOSE_TO_DATA = {'beta': 0.5}
# Ours, because IQL's authors have no pointmaze. It is small: a laptop trains it in minutes. In so
# short a run, the default target critic would not carry the goal's reward to the start.
_POINTMAZE = {**_ANTMAZE, 'hidden': 128, 'tau': 0.05, 'clone_seeds': 2}
# Ours, for the toy tasks.
_TOY = {
    'steps': 2_000,
    'eval_every': 1_000,
    'hidden': 128,
    'lr': 1e-3,
    'critic_lr': 1e-3,
    'tau': 0.05,
}

TABLE: dict[str, dict] = {
    **dict.fromkeys(LOCOMOTION, _LOCOMOTION),
    **dict.fromkeys(ANTMAZES, _ANTMAZE),
    'pen-human': _CLOSE_TO_DATA,
    'pen-cloned': _CLOSE_TO_DATA,
    'kitchen-complete': _CLOSE_TO_DATA,
    'kitchen-partial': _CLOSE_TO_DATA,
    'kitchen-mixed': _CLOSE_TO_DATA,
    'toy': _TOY,
    'pointmaze-umaze': {**_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000},
    'pointmaze-medium': {**_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000},
    'pointmaze-large': {**_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000},
}
