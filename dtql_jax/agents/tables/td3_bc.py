"""TD3+BC's per-task settings: CORL's for AntMaze, and ours for pointmaze and the toys.

The paper has one set of settings, the defaults, for all of locomotion. CORL (6afec90,
configs/offline/td3_bc) keeps it for AntMaze and Adroit, and subtracts 1 from AntMaze's rewards.
"""

from dtql_jax.agents.tables import ANTMAZES, Table

_ANTMAZE = {'reward': 'iql_antmaze'}
# Ours, because its authors have no pointmaze. It is small: a laptop trains it in minutes. In so
# short a run, the default targets would not carry the goal's reward to the start. They move at
# every second update only, so their rate is twice that of other agents' rows.
_POINTMAZE = {**_ANTMAZE, 'hidden': 128, 'tau': 0.1}
# Ours, for the toy tasks.
_TOY = {'steps': 2_000, 'eval_every': 1_000, 'hidden': 128, 'lr': 1e-3, 'tau': 0.1}

TABLE: Table = {
    **dict.fromkeys(ANTMAZES, _ANTMAZE),
    'toy': _TOY,
    'pointmaze-umaze': {**_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000},
    'pointmaze-medium': {**_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000},
    'pointmaze-large': {**_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000},
}
