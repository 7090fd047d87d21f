"""IDQL's per-task settings: the launcher of the released code, and ours for pointmaze.

The released code has locomotion and AntMaze only. The paper tuned the number of candidates for each
task among 16, 64 and 256; these rows keep the default.
"""

from dtql_jax.agents.tables import ANTMAZES, LOCOMOTION

_LOCOMOTION = {'reward': 'iql_locomotion'}
_ANTMAZE = {'reward': 'iql_antmaze', 'expectile': 0.9}
# Ours, because IDQL's authors have no pointmaze. It is small: a laptop trains it in minutes. The
# averages move faster: in so short a run the default of mu's would average its beginning, and the
# target critic's would not carry the goal's reward to the start (see docs/agents/idql.md). V sees
# the observation as it is, because a LayerNorm would take the place in the maze from it. Candidates
# are few: after so few updates the largest Q of 32 is an error of Q.
_POINTMAZE = {
    **_ANTMAZE,
    'batch_size': 256,
    'ema_tau': 0.005,
    'tau': 0.05,
    'value_norm': False,
    'hidden': 128,
    'candidates': 4,
}
# Ours, for the toy tasks.
_TOY = {
    'steps': 2_000,
    'eval_every': 1_000,
    'batch_size': 256,
    'hidden': 128,
    'lr': 1e-3,
    'ema_tau': 0.005,
    'tau': 0.05,
    'value_norm': False,
    'candidates': 32,
}

TABLE: dict[str, dict] = {
    **dict.fromkeys(LOCOMOTION, _LOCOMOTION),
    **dict.fromkeys(ANTMAZES, _ANTMAZE),
    'toy': _TOY,
    'pointmaze-umaze': {
        **_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000,
    },
    'pointmaze-medium': {
        **_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000,
    },
    'pointmaze-large': {
        **_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000,
    },
}  # fmt: skip
