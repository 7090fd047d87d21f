"""Diffusion-QL's per-task settings: `main.py` of the released code, and ours where it has none.

An epoch is 1000 updates. The released runs also choose a checkpoint, in different ways; ours use
the last one.
"""

from dtql_jax.agents.tables import hands

_ANTMAZE = {'steps': 1_000_000, 'reward': 'cql_antmaze'}
_ANTMAZE_BACKUP = {**_ANTMAZE, 'max_q_backup': True}
_PEN = {'steps': 1_000_000, 'reward': 'normalize', 'lr': 3e-5}
_KITCHEN = {'steps': 1_000_000, 'eta': 0.005}
# Ours, because Diffusion-QL's authors have no pointmaze. It is small enough for a laptop.
_POINTMAZE = {
    'eta': 1.0,
    'max_norm': 5.0,
    'reward': 'iql_antmaze',
    'hidden': 128,
    'candidates': 32,
    'lr_decay': 'cosine',
    'clone_seeds': 2,
}
# Ours, because Diffusion-QL's toy tasks have other rewards.
_TOY = {
    'steps': 2_000,
    'eval_every': 1_000,
    'lr': 1e-3,
    'hidden': 128,
    'candidates': 32,
    'tau': 0.05,
}
# Ours: the numbers of D4RL's large mazes. OGBench's rewards are -1 and 0 already.
_OGBENCH = {'steps': 1_000_000, 'eta': 3.5, 'max_norm': 7.0}
_HUMAN = {**_PEN, 'eta': 0.15, 'max_norm': 7.0}
_CLONED = {**_PEN, 'eta': 0.1, 'max_norm': 8.0}

TABLE: dict[str, dict] = {
    'halfcheetah-medium': {},
    'halfcheetah-medium-replay': {'max_norm': 2.0},
    'halfcheetah-medium-expert': {'max_norm': 7.0},
    'hopper-medium': {},
    'hopper-medium-replay': {'max_norm': 4.0},
    'hopper-medium-expert': {'max_norm': 5.0},
    'walker2d-medium': {'max_norm': 1.0},
    'walker2d-medium-replay': {'max_norm': 4.0},
    'walker2d-medium-expert': {'max_norm': 5.0},
    'halfcheetah-expert': {'max_norm': 7.0},
    'hopper-expert': {'max_norm': 5.0},
    'walker2d-expert': {'max_norm': 5.0},
    'antmaze-umaze': {**_ANTMAZE, 'eta': 0.5, 'max_norm': 2.0},
    'antmaze-umaze-diverse': {**_ANTMAZE_BACKUP, 'eta': 2.0, 'max_norm': 3.0},
    'antmaze-medium-play': {**_ANTMAZE_BACKUP, 'lr': 1e-3, 'eta': 2.0, 'max_norm': 2.0},
    'antmaze-medium-diverse': {**_ANTMAZE_BACKUP, 'eta': 3.0, 'max_norm': 1.0},
    'antmaze-large-play': {**_ANTMAZE_BACKUP, 'eta': 4.5, 'max_norm': 10.0},
    'antmaze-large-diverse': {**_ANTMAZE_BACKUP, 'eta': 3.5, 'max_norm': 7.0},
    **hands(human=_HUMAN, cloned=_CLONED),
    'kitchen-complete': {**_KITCHEN, 'steps': 250_000},
    'kitchen-partial': {**_KITCHEN, 'max_norm': 10.0},
    'kitchen-mixed': {**_KITCHEN, 'max_norm': 10.0},
    'ogbench-maze': {**_OGBENCH, 'max_q_backup': True},
    'ogbench-long-maze': {**_OGBENCH, 'max_q_backup': True, 'discount': 0.995},
    'ogbench-hand': {**_OGBENCH, 'eta': 1.0},
    'toy': _TOY,
    'pointmaze-umaze': {**_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000},
    'pointmaze-medium': {**_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000},
    'pointmaze-large': {**_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000},
}
