"""The published benchmark tasks: D4RL's, from Minari or from D4RL's own files, and OGBench's.

A name without a version means Minari's edition of the data. A name with D4RL's version means D4RL's
own file, evaluated in the simulator closest to the one that recorded it. OGBench's tasks have
OGBench's names. docs/data.md tells how each simulator was validated.

Worker processes import this module, so it imports no jax.
"""

from collections.abc import Iterator
from typing import Any

from dtql_jax.tasks.mazes import MAPS
from dtql_jax.tasks.task import Task

D4RL_URL = 'http://rail.eecs.berkeley.edu/datasets/offline_rl'
OGBENCH_URL = 'https://rail.eecs.berkeley.edu/datasets/ogbench'

# D4RL's returns of a random and an expert policy, which score 0 and 100, by robot or hand.
RANGES = {
    'halfcheetah': (-280.178953, 12135.0),
    'hopper': (-20.272305, 3234.3),
    'walker2d': (1.629008, 4592.3),
    'pen': (96.262799, 3076.8331017826877),
    'door': (-56.512833, 2880.5693087298737),
    'hammer': (-274.856578, 12794.134825156867),
    'relocate': (-6.425911, 4233.877797728884),
}
ROBOTS = {'halfcheetah': 'HalfCheetah', 'hopper': 'Hopper', 'walker2d': 'Walker2d'}
# size -> (the maze's name in D4RL's files, the horizon of its evaluation)
ANTMAZES = {'umaze': ('u-maze', 700), 'medium': ('big-maze', 1000), 'large': ('hardest-maze', 1000)}
# kind -> (gymnasium-robotics' environment, many starts, many goals)
ANTMAZE_KINDS = {
    'umaze': ('UMaze', False, False),
    'umaze-diverse': ('UMaze', True, True),
    'medium-play': ('Medium', True, False),
    'medium-diverse': ('Medium_Diverse_GR', True, True),
    'large-play': ('Large', True, False),
    'large-diverse': ('Large_Diverse_GR', True, True),
}
KITCHENS = {  # kind -> (D4RL's file, the kitchen's tasks that must be completed)
    'complete': (
        'mini_kitchen_microwave_kettle_light_slider-v0',
        ('microwave', 'kettle', 'light switch', 'slide cabinet'),
    ),
    'partial': (
        'kitchen_microwave_kettle_light_slider-v0',
        ('microwave', 'kettle', 'light switch', 'slide cabinet'),
    ),
    'mixed': (
        'kitchen_microwave_kettle_bottomburner_light-v0',
        ('microwave', 'kettle', 'bottom burner', 'light switch'),
    ),
}
_NAVIGATE, _STITCH = ('navigate', 'stitch'), ('navigate', 'stitch', 'explore')
_PLAY = ('play', 'noisy')
# environment -> (horizon, kinds of data, `Task.group`)
OGBENCH = {
    'pointmaze-medium': (1000, _NAVIGATE, 'ogbench-maze'),
    'pointmaze-large': (1000, _NAVIGATE, 'ogbench-maze'),
    'pointmaze-giant': (1000, _NAVIGATE, 'ogbench-long-maze'),
    'pointmaze-teleport': (1000, _NAVIGATE, 'ogbench-maze'),
    'antmaze-medium': (1000, _STITCH, 'ogbench-maze'),
    'antmaze-large': (1000, _STITCH, 'ogbench-maze'),
    'antmaze-giant': (1000, _NAVIGATE, 'ogbench-long-maze'),
    'antmaze-teleport': (1000, _STITCH, 'ogbench-maze'),
    'humanoidmaze-medium': (2000, _NAVIGATE, 'ogbench-long-maze'),
    'humanoidmaze-large': (2000, _NAVIGATE, 'ogbench-long-maze'),
    'humanoidmaze-giant': (4000, _NAVIGATE, 'ogbench-long-maze'),
    'antsoccer-arena': (1000, _NAVIGATE, 'ogbench-long-maze'),
    'antsoccer-medium': (1000, _NAVIGATE, 'ogbench-long-maze'),
    'cube-single': (200, _PLAY, 'ogbench-hand'),
    'cube-double': (500, _PLAY, 'ogbench-hand'),
    'cube-triple': (1000, _PLAY, 'ogbench-hand'),
    'cube-quadruple': (1000, _PLAY, 'ogbench-hand'),
    'scene': (750, _PLAY, 'ogbench-hand'),
    'puzzle-3x3': (500, _PLAY, 'ogbench-hand'),
    'puzzle-4x4': (500, _PLAY, 'ogbench-hand'),
    'puzzle-4x5': (1000, _PLAY, 'ogbench-hand'),
    'puzzle-4x6': (1000, _PLAY, 'ogbench-hand'),
}


def published() -> Iterator[Task]:
    """All tasks. Of those that share a base, the default comes first."""
    yield from _pointmazes()
    yield from _antmazes()
    yield from _locomotion()
    yield from _adroit()
    yield from _kitchens()
    yield from _ogbench()


def _pointmazes() -> Iterator[Task]:
    for size, env, horizon in (
        ('umaze', 'UMaze', 300),
        ('medium', 'Medium', 600),
        ('large', 'Large', 800),
    ):
        yield Task(
            f'pointmaze-{size}',
            (f'dtql/pointmaze-{size}-v0',),
            'pointmaze',
            f'PointMaze_{env}-v3',
            {'maze_map': MAPS[size], 'continuing_task': True, 'reset_target': False},
            ('observation',),
            goal='relabel',
            success_ends=True,
            score_range=(0.0, 1.0),
            horizon=horizon,
            eval_episodes=50,
            collect='pointmaze',
        )


def _antmazes() -> Iterator[Task]:
    shared: dict[str, Any] = {
        'obs_keys': ('achieved_goal', 'observation'),
        'success_ends': True,
        'score_range': (0.0, 1.0),
        'eval_episodes': 100,
    }
    for kind, (env, _, _) in ANTMAZE_KINDS.items():
        size = kind.split('-')[0]
        maze_map = MAPS['antmaze-umaze' if size == 'umaze' else size]
        yield Task(
            f'antmaze-{kind}',
            (f'D4RL/antmaze/{kind}-v1',),
            'antmaze',
            f'AntMaze_{env}-v4',
            {'maze_map': maze_map, 'continuing_task': True, 'reset_target': False},
            goal='relabel',
            horizon=ANTMAZES[size][1],
            **shared,
        )
    for version, folder, end in (('v0', 'ant_maze_new', ''), ('v2', 'ant_maze_v2', '_fixed')):
        for kind, (_, starts, goals) in ANTMAZE_KINDS.items():
            size = kind.split('-')[0]
            maze, horizon = ANTMAZES[size]
            file = f'Ant_maze_{maze}_noisy_multistart_{starts}_multigoal_{goals}_sparse{end}.hdf5'
            yield Task(
                f'antmaze-{kind}-{version}',
                (f'{D4RL_URL}/{folder}/{file}',),
                'd4rl-antmaze',
                'dtql_jax.tasks.simulators:D4RLAntMaze-v0',
                {'maze_map': MAPS[size]},
                goal='recorded',
                horizon=horizon,
                source='d4rl',
                caveat="D4RL's ant and maze rebuilt on MuJoCo 3; the ant agrees with OGBench's "
                "data, D4RL's own file was not compared",
                **shared,
            )


def _locomotion() -> Iterator[Task]:
    for robot, env in ROBOTS.items():
        shared: dict[str, Any] = {'family': 'mujoco', 'score_range': RANGES[robot], 'horizon': 1000}
        for level in ('medium', 'expert', 'medium-expert'):
            sets = tuple(f'mujoco/{robot}/{part}-v0' for part in level.split('-'))
            yield Task(f'{robot}-{level}', sets, env_id=f'{env}-v5', **shared)
        for level in ('medium', 'medium-replay', 'medium-expert', 'expert'):
            yield Task(
                f'{robot}-{level}-v2',
                (f'{D4RL_URL}/gym_mujoco_v2/{robot}_{level.replace("-", "_")}-v2.hdf5',),
                env_id=f'{env}-v4',  # has v2's model; v5 changed parts of it
                source='d4rl',
                caveat=f"{env}-v4 stands in for D4RL's {env}-v2; not compared with D4RL's file",
                **shared,
            )


def _adroit() -> Iterator[Task]:
    for hand, horizon in (('pen', 100), ('door', 200), ('hammer', 200), ('relocate', 200)):
        env_id = f'AdroitHand{hand.capitalize()}-v1'
        shared: dict[str, Any] = {
            'family': 'adroit',
            'env_id': env_id,
            'score_range': RANGES[hand],
            'horizon': horizon,
            'eval_episodes': 100,
        }
        for kind in ('human', 'cloned', 'expert'):
            yield Task(f'{hand}-{kind}', (f'D4RL/{hand}/{kind}-v2',), **shared)
            yield Task(
                f'{hand}-{kind}-v1',
                (f'{D4RL_URL}/hand_dapg_v1/{hand}-{kind}-v1.hdf5',),
                source='d4rl',
                caveat=f"{env_id} stands in for D4RL's {hand}-v1; not compared with D4RL's file",
                **shared,
            )


def _kitchens() -> Iterator[Task]:
    shared: dict[str, Any] = {
        'family': 'kitchen',
        'score_range': (0.0, 4.0),
        'horizon': 280,
        'eval_episodes': 100,
    }
    for kind, (file, subtasks) in KITCHENS.items():
        yield Task(
            f'kitchen-{kind}',
            (f'D4RL/kitchen/{kind}-v2',),
            env_id='FrankaKitchen-v1',
            env_kwargs={'tasks_to_complete': list(subtasks)},
            obs_keys=('observation',),
            **shared,
        )
        yield Task(
            f'kitchen-{kind}-v0',
            (f'{D4RL_URL}/kitchen/{file}.hdf5',),
            env_id='dtql_jax.tasks.simulators:D4RLKitchen-v0',
            env_kwargs={'tasks': list(subtasks)},
            source='d4rl',
            caveat="FrankaKitchen-v1 with D4RL's observation; not compared with D4RL's file",
            **shared,
        )


def _ogbench() -> Iterator[Task]:
    for env, (horizon, kinds, group) in OGBENCH.items():
        for kind in kinds:
            for suffix in ('', *(f'-task{i}' for i in range(1, 6))):
                yield Task(
                    f'{env}-{kind}-singletask{suffix}-v0',
                    (f'{OGBENCH_URL}/{env}-{kind}-v0.npz',),
                    'ogbench',
                    f'ogbench:{env}-singletask{suffix}-v0',
                    success_timing='pre',
                    score_range=(0.0, 1.0),
                    scored='success',
                    horizon=horizon,
                    eval_episodes=50,
                    source='ogbench',
                    group=group,
                )
