"""IDQL's per-task settings: the launcher of the released code, and ours for pointmaze.

The released code has locomotion and AntMaze only. The paper tuned the number of candidates for each
task among 16, 64 and 256; these rows keep the default.
"""

from dtql_jax.agents.tables import ANTMAZES, LOCOMOTION

_LOCOMOTION = {'reward': 'iql_locomotion'}
_ANTMAZE = {'reward': 'iql_antmaze', 'expectile': 0.9}
# Ours, because IDQL's authors have no pointmaze. It is small: a laptop trains it in minutes. The
# average of mu moves faster, because in so short a run the default would average its beginning.
_POINTMAZE = {
    **_ANTMAZE,
    'batch_size': 256,
    'ema_tau': 0.005,
    'hidden': 128,
    'candidates': 32,
}

TABLE: dict[str, dict] = {
    **dict.fromkeys(LOCOMOTION, _LOCOMOTION),
    **dict.fromkeys(ANTMAZES, _ANTMAZE),
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
