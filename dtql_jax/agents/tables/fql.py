"""FQL's per-task settings: the commands in the README of the released code, and ours.

OGBench's runs have 1,000,000 updates, D4RL's 500,000. The rows of OGBench hold for all five tasks
of a set, since `alpha` is the same for all.
"""

from dtql_jax.agents.tables import LOCOMOTION, Table

_D4RL = {'steps': 500_000}
_ANTMAZE = {**_D4RL, 'reward': 'iql_antmaze'}
_HAND = {**_D4RL, 'q_aggregate': 'min'}
_ANT = {'q_aggregate': 'min'}
_LONG = {'discount': 0.995}
# Ours, because FQL's authors have neither: they advise `normalise_q` for new tasks.
_LOCOMOTION = {'normalise_q': True, 'alpha': 1.0}
# Ours too. It is small: a laptop trains it in minutes. In so short a run, the default target critic
# would not carry the goal's reward to the start.
_POINTMAZE = {'reward': 'iql_antmaze', 'alpha': 1.0, 'hidden': 128, 'tau': 0.05}
# Ours, for the toy tasks.
_TOY = {
    'steps': 2_000,
    'eval_every': 1_000,
    'hidden': 128,
    'lr': 1e-3,
    'tau': 0.05,
    'normalise_q': True,
    'alpha': 1.0,
}

TABLE: Table = {
    'antmaze-umaze': _ANTMAZE,
    'antmaze-umaze-diverse': _ANTMAZE,
    'antmaze-medium-play': _ANTMAZE,
    'antmaze-medium-diverse': _ANTMAZE,
    'antmaze-large-play': {**_ANTMAZE, 'alpha': 3.0},
    'antmaze-large-diverse': {**_ANTMAZE, 'alpha': 3.0},
    'pen-human': {**_HAND, 'alpha': 10_000.0},
    'pen-cloned': {**_HAND, 'alpha': 10_000.0},
    'pen-expert': {**_HAND, 'alpha': 3_000.0},
    'door-human': {**_HAND, 'alpha': 30_000.0},
    'door-cloned': {**_HAND, 'alpha': 30_000.0},
    'door-expert': {**_HAND, 'alpha': 30_000.0},
    'hammer-human': {**_HAND, 'alpha': 30_000.0},
    'hammer-cloned': {**_HAND, 'alpha': 10_000.0},
    'hammer-expert': {**_HAND, 'alpha': 30_000.0},
    'relocate-human': {**_HAND, 'alpha': 10_000.0},
    'relocate-cloned': {**_HAND, 'alpha': 30_000.0},
    'relocate-expert': {**_HAND, 'alpha': 30_000.0},
    'antmaze-large-navigate-singletask-v0': _ANT,
    'antmaze-giant-navigate-singletask-v0': {**_ANT, **_LONG},
    'humanoidmaze-medium-navigate-singletask-v0': {**_LONG, 'alpha': 30.0},
    'humanoidmaze-large-navigate-singletask-v0': {**_LONG, 'alpha': 30.0},
    'antsoccer-arena-navigate-singletask-v0': _LONG,
    'cube-single-play-singletask-v0': {'alpha': 300.0},
    'cube-double-play-singletask-v0': {'alpha': 300.0},
    'scene-play-singletask-v0': {'alpha': 300.0},
    'puzzle-3x3-play-singletask-v0': {'alpha': 1_000.0},
    'puzzle-4x4-play-singletask-v0': {'alpha': 1_000.0},
    # Ours: OGBench's other sets have the numbers of those above that are most like them.
    'ogbench-maze': _ANT,
    'ogbench-long-maze': _LONG,
    'ogbench-hand': {'alpha': 300.0},
    **dict.fromkeys(LOCOMOTION, _LOCOMOTION),
    'toy': _TOY,
    'pointmaze-umaze': {**_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000},
    'pointmaze-medium': {**_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000},
    'pointmaze-large': {**_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000},
}
