"""ReBRAC's per-task settings: released ones of two sources, and ours for pointmaze.

OGBench: the pairs that FQL's authors tuned, with FQL's discounts. One of them is a command of their
README (humanoidmaze-medium); the others are quoted from their paper.

D4RL: the original code's files (tinkoff-ai/ReBRAC, 694385b, configs/rebrac): weights, discounts,
batches, learning rates. The original has other networks (see `rebrac`). Its learning rate of Q in
AntMaze, 5e-5, is left out, because one learning rate serves both networks here. It multiplies
AntMaze's rewards by 100; `alpha_critic` is divided by 100 instead, which is the same for Q / 100.
"""

from typing import Any

from dtql_jax.agents.tables import Table

Pairs = dict[str, tuple[float, float]]  # alpha_actor and alpha_critic by task

_GYM: Pairs = {
    'halfcheetah-medium': (0.001, 0.01),
    'halfcheetah-medium-replay': (0.01, 0.001),
    'halfcheetah-medium-expert': (0.01, 0.1),
    'halfcheetah-expert': (0.01, 0.01),
    'hopper-medium': (0.01, 0.01),
    'hopper-medium-replay': (0.05, 0.5),
    'hopper-medium-expert': (0.1, 0.01),
    'hopper-expert': (0.1, 0.1),
    'walker2d-medium': (0.05, 0.1),
    'walker2d-medium-replay': (0.05, 0.01),
    'walker2d-medium-expert': (0.01, 0.01),
    'walker2d-expert': (0.01, 0.5),
}
_ANTMAZE: Pairs = {
    'antmaze-umaze': (0.003, 2e-5),
    'antmaze-umaze-diverse': (0.003, 1e-5),
    'antmaze-medium-play': (0.001, 5e-6),
    'antmaze-medium-diverse': (0.001, 0.0),
    'antmaze-large-play': (0.002, 1e-5),
    'antmaze-large-diverse': (0.002, 2e-5),
}
_HANDS: Pairs = {
    'pen-human': (0.1, 0.5),
    'pen-cloned': (0.05, 0.5),
    'pen-expert': (0.01, 0.01),
    'door-human': (0.1, 0.1),
    'door-cloned': (0.01, 0.1),
    'door-expert': (0.05, 0.01),
    'hammer-human': (0.01, 0.5),
    'hammer-cloned': (0.1, 0.5),
    'hammer-expert': (0.01, 0.01),
    'relocate-human': (0.1, 0.01),
    'relocate-cloned': (0.1, 0.01),
    'relocate-expert': (0.05, 0.01),
}
# The last of each group is ours: OGBench's other sets have the numbers of those most like them.
_OGBENCH: Pairs = {
    'antmaze-large-navigate-singletask-v0': (0.003, 0.01),
    'ogbench-maze': (0.003, 0.01),
    'cube-single-play-singletask-v0': (1.0, 0.0),
    'cube-double-play-singletask-v0': (0.1, 0.0),
    'scene-play-singletask-v0': (0.1, 0.01),
    'puzzle-3x3-play-singletask-v0': (0.3, 0.01),
    'puzzle-4x4-play-singletask-v0': (0.3, 0.01),
    'ogbench-hand': (0.1, 0.01),
}
_OGBENCH_LONG: Pairs = {
    'antmaze-giant-navigate-singletask-v0': (0.003, 0.01),
    'humanoidmaze-medium-navigate-singletask-v0': (0.01, 0.01),
    'humanoidmaze-large-navigate-singletask-v0': (0.01, 0.01),
    'antsoccer-arena-navigate-singletask-v0': (0.01, 0.01),
    'ogbench-long-maze': (0.01, 0.01),
}
# Ours, because its authors have no pointmaze. It is small: a laptop trains it in minutes. In so
# short a run, the default targets would not carry the goal's reward to the start. They move at
# every second update only, so their rate is twice that of other agents' rows.
_POINTMAZE = {'reward': 'iql_antmaze', 'hidden': 128, 'tau': 0.1}
# Ours, for the toy tasks.
_TOY = {'steps': 2_000, 'eval_every': 1_000, 'hidden': 128, 'tau': 0.1}


def _rows(pairs: Pairs, **others: Any) -> Table:
    return {
        task: {'alpha_actor': actor, 'alpha_critic': critic, **others}
        for task, (actor, critic) in pairs.items()
    }


TABLE: Table = {
    **_rows(_GYM, batch_size=1024, lr=1e-3),
    **_rows(_ANTMAZE, discount=0.999),
    **_rows(_HANDS),
    **_rows(_OGBENCH),
    **_rows(_OGBENCH_LONG, discount=0.995),
    'toy': _TOY,
    'pointmaze-umaze': {**_POINTMAZE, 'steps': 4_000, 'eval_every': 2_000},
    'pointmaze-medium': {**_POINTMAZE, 'steps': 20_000, 'eval_every': 10_000},
    'pointmaze-large': {**_POINTMAZE, 'steps': 40_000, 'eval_every': 20_000},
}
