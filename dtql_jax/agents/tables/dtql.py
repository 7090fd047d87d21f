"""DTQL's per-task settings: `main.py` of the released code, and ours where it has none.

`gamma` 1 adds the likelihood term. The released code has it for AntMaze only, together with
`reward - 1` and a batch of 2048. An epoch is 1000 updates.
"""

from dtql_jax.agents.tables import hands

_ANTMAZE = {'gamma': 1.0, 'batch_size': 2048, 'expectile': 0.9, 'reward': 'iql_antmaze'}
# Ours, because DTQL's authors have no pointmaze. It is small: a laptop trains it in minutes.
_POINTMAZE = {
    'alpha': 1.0,
    'gamma': 0.0,
    'expectile': 0.9,
    'reward': 'iql_antmaze',
    'hidden': 128,
    'candidates': 32,
    'lr_decay': True,
    'clone_seeds': 2,
}
# The numbers of the released toy script, but for the batch, which is the whole set there, the
# number of updates (3500 of all networks), and the choice among candidates, which it does not make.
_TOY = {
    'steps': 2_000,
    'pretrain_steps': 1_500,
    'eval_every': 1_000,
    'lr': 3e-3,
    'critic_lr': 3e-3,
    'expectile': 0.95,
    'hidden': 128,
    'clip_denoised': False,
    'candidates': 32,
    'clone_seeds': 2,
}
# Ours, because DTQL's authors trained neither on OGBench nor on the other hands. OGBench's mazes
# have the numbers of D4RL's large mazes; their rewards are -1 and 0 already. Its arm, whose rewards
# count the open subtasks, has no likelihood term but a stronger trust region. Where episodes are
# long, the discount is that of OGBench's own agents.
_OGBENCH = {'gamma': 1.0, 'batch_size': 2048, 'expectile': 0.9, 'steps': 500_000}
_HUMAN = {
    'steps': 300_000, 'lr': 3e-5, 'alpha': 1500.0, 'lr_decay': True, 'expectile': 0.9,
}  # fmt: skip
_CLONED = {'steps': 200_000, 'lr': 1e-5, 'alpha': 1500.0}

TABLE: dict[str, dict] = {
    'halfcheetah-medium': {},
    'halfcheetah-medium-replay': {'alpha': 5.0},
    'halfcheetah-medium-expert': {'alpha': 50.0},
    'hopper-medium': {'lr': 1e-4, 'alpha': 5.0, 'lr_decay': True},
    'hopper-medium-replay': {'alpha': 5.0},
    'hopper-medium-expert': {'alpha': 20.0},
    'walker2d-medium': {'alpha': 5.0, 'lr_decay': True},
    'walker2d-medium-replay': {'alpha': 5.0, 'lr_decay': True},
    'walker2d-medium-expert': {'alpha': 5.0, 'lr_decay': True},
    'halfcheetah-expert': {'alpha': 50.0},
    'hopper-expert': {'alpha': 20.0},
    'walker2d-expert': {'alpha': 5.0, 'lr_decay': True},
    'antmaze-umaze': {**_ANTMAZE, 'steps': 500_000},
    'antmaze-umaze-diverse': {**_ANTMAZE, 'steps': 500_000, 'lr': 3e-5, 'lr_decay': True},
    'antmaze-medium-play': {**_ANTMAZE, 'steps': 400_000},
    'antmaze-medium-diverse': {**_ANTMAZE, 'steps': 400_000},
    'antmaze-large-play': {**_ANTMAZE, 'steps': 350_000},
    'antmaze-large-diverse': {**_ANTMAZE, 'steps': 300_000, 'alpha': 0.5},
    **hands(human=_HUMAN, cloned=_CLONED),
    'kitchen-complete': {'steps': 500_000, 'lr': 1e-4, 'alpha': 200.0, 'lr_decay': True},
    'kitchen-partial': {'lr': 1e-4, 'alpha': 100.0, 'lr_decay': True},
    'kitchen-mixed': {'steps': 500_000, 'alpha': 200.0, 'lr_decay': True},
    'ogbench-maze': {**_OGBENCH, 'alpha': 0.5},
    'ogbench-long-maze': {**_OGBENCH, 'alpha': 0.5, 'discount': 0.995},
    'ogbench-hand': {**_OGBENCH, 'gamma': 0.0, 'alpha': 10.0, 'batch_size': 256},
    'toy': _TOY,
    'pointmaze-umaze': {
        **_POINTMAZE, 'steps': 4_000, 'pretrain_steps': 1_000, 'eval_every': 2_000,
    },
    'pointmaze-medium': {
        **_POINTMAZE, 'steps': 20_000, 'pretrain_steps': 4_000, 'eval_every': 10_000,
    },
    'pointmaze-large': {
        **_POINTMAZE, 'steps': 40_000, 'pretrain_steps': 6_000, 'eval_every': 20_000,
    },
}  # fmt: skip
