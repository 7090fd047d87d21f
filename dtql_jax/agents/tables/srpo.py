"""SRPO's per-task settings: its released code, and ours for pointmaze.

All tasks have the same steps: an epoch is 10,000 updates, and the three phases have 200, 150 and
100 epochs. The released code evaluates at every second epoch, here at every fifth.
"""

_LOCOMOTION = {'reward': 'iql_locomotion'}
_MAZE = {
    'reward': 'iql_antmaze',
    'expectile': 0.9,
    'normalise_q_gradient': True,
    'policy_layers': 4,
}
# Ours, because SRPO's authors have no pointmaze. It is small: a laptop trains it in minutes. In so
# short a run the default `tau` would not carry the goal's reward to the start.
_POINTMAZE = {
    **_MAZE,
    'beta': 0.05,
    'tau': 0.05,
    'hidden': 128,
    'behaviour_batch_size': 256,
    'clone_seeds': 2,
}
# Ours, for the toy tasks.
_TOY = {
    'behaviour_steps': 2_000,
    'behaviour_batch_size': 256,
    'critic_steps': 1_000,
    'steps': 1_000,
    'eval_every': 500,
    'hidden': 128,
    'lr': 1e-3,
    'critic_lr': 1e-3,
    'tau': 0.05,
    'clone_seeds': 2,
}

TABLE: dict[str, dict] = {
    'halfcheetah-medium': {**_LOCOMOTION, 'beta': 0.2},
    'halfcheetah-medium-replay': {**_LOCOMOTION, 'beta': 0.2},
    'halfcheetah-medium-expert': {**_LOCOMOTION, 'beta': 0.01},
    'hopper-medium': {**_LOCOMOTION, 'beta': 0.05},
    'hopper-medium-replay': {**_LOCOMOTION, 'beta': 0.2},
    'hopper-medium-expert': {**_LOCOMOTION, 'beta': 0.01},
    'walker2d-medium': {**_LOCOMOTION, 'beta': 0.05},
    'walker2d-medium-replay': {**_LOCOMOTION, 'beta': 0.5},
    'walker2d-medium-expert': {**_LOCOMOTION, 'beta': 0.1},
    'antmaze-umaze': {**_MAZE, 'beta': 0.02},
    'antmaze-umaze-diverse': {**_MAZE, 'beta': 0.04},
    'antmaze-medium-play': {**_MAZE, 'beta': 0.08},
    'antmaze-medium-diverse': {**_MAZE, 'beta': 0.05},
    'antmaze-large-play': {**_MAZE, 'beta': 0.06},
    'antmaze-large-diverse': {**_MAZE, 'beta': 0.05},
    'toy': _TOY,
    'pointmaze-umaze': {
        **_POINTMAZE, 'behaviour_steps': 2_000, 'critic_steps': 4_000, 'steps': 4_000,
        'eval_every': 2_000,
    },
    'pointmaze-medium': {
        **_POINTMAZE, 'behaviour_steps': 8_000, 'critic_steps': 20_000, 'steps': 20_000,
        'eval_every': 10_000,
    },
    'pointmaze-large': {
        **_POINTMAZE, 'behaviour_steps': 12_000, 'critic_steps': 40_000, 'steps': 40_000,
        'eval_every': 20_000,
    },
}  # fmt: skip
