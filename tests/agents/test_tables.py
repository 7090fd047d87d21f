"""The tables of per-task settings.

Their numbers are those of the released codes' scripts. The rows are written out here a second time,
in the columns of those scripts, so that a mistake in a table shows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dtql_jax.agents.base import Agent
from dtql_jax.agents.idql import IDQL
from dtql_jax.agents.registry import AGENTS, register_agent, row_of, task_config
from dtql_jax.agents.tables import hands
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import Spec

# lr of both policies, alpha, gamma, decay of the learning rates, epochs, batch, expectile.
DTQL = """
halfcheetah-medium            3e-4     1 0 no  1000  256 .7
halfcheetah-medium-replay     3e-4     5 0 no  1000  256 .7
halfcheetah-medium-expert     3e-4    50 0 no  1000  256 .7
hopper-medium                 1e-4     5 0 yes 1000  256 .7
hopper-medium-replay          3e-4     5 0 no  1000  256 .7
hopper-medium-expert          3e-4    20 0 no  1000  256 .7
walker2d-medium               3e-4     5 0 yes 1000  256 .7
walker2d-medium-replay        3e-4     5 0 yes 1000  256 .7
walker2d-medium-expert        3e-4     5 0 yes 1000  256 .7
antmaze-umaze                 3e-4     1 1 no   500 2048 .9
antmaze-umaze-diverse         3e-5     1 1 yes  500 2048 .9
antmaze-medium-play           3e-4     1 1 no   400 2048 .9
antmaze-medium-diverse        3e-4     1 1 no   400 2048 .9
antmaze-large-play            3e-4     1 1 no   350 2048 .9
antmaze-large-diverse         3e-4   0.5 1 no   300 2048 .9
pen-human                     3e-5  1500 0 yes  300  256 .9
pen-cloned                    1e-5  1500 0 no   200  256 .7
kitchen-complete              1e-4   200 0 yes  500  256 .7
kitchen-partial               1e-4   100 0 yes 1000  256 .7
kitchen-mixed                 3e-4   200 0 yes  500  256 .7
"""
# lr, eta, max-Q backup, reward, epochs, bound of the gradient's norm.
DIFFUSION_QL = """
halfcheetah-medium         3e-4  1.0 no  none        2000  9
halfcheetah-medium-replay  3e-4  1.0 no  none        2000  2
halfcheetah-medium-expert  3e-4  1.0 no  none        2000  7
hopper-medium              3e-4  1.0 no  none        2000  9
hopper-medium-replay       3e-4  1.0 no  none        2000  4
hopper-medium-expert       3e-4  1.0 no  none        2000  5
walker2d-medium            3e-4  1.0 no  none        2000  1
walker2d-medium-replay     3e-4  1.0 no  none        2000  4
walker2d-medium-expert     3e-4  1.0 no  none        2000  5
antmaze-umaze              3e-4  0.5 no  cql_antmaze 1000  2
antmaze-umaze-diverse      3e-4  2.0 yes cql_antmaze 1000  3
antmaze-medium-play        1e-3  2.0 yes cql_antmaze 1000  2
antmaze-medium-diverse     3e-4  3.0 yes cql_antmaze 1000  1
antmaze-large-play         3e-4  4.5 yes cql_antmaze 1000 10
antmaze-large-diverse      3e-4  3.5 yes cql_antmaze 1000  7
pen-human                  3e-5 0.15 no  normalize   1000  7
pen-cloned                 3e-5 0.10 no  normalize   1000  8
kitchen-complete           3e-4 .005 no  none         250  9
kitchen-partial            3e-4 .005 no  none        1000 10
kitchen-mixed              3e-4 .005 no  none        1000 10
"""
# alpha of FQL, discount, aggregate of Q.
FQL = """
antmaze-umaze                                  10 .99  mean
antmaze-umaze-diverse                          10 .99  mean
antmaze-medium-play                            10 .99  mean
antmaze-medium-diverse                         10 .99  mean
antmaze-large-play                              3 .99  mean
antmaze-large-diverse                           3 .99  mean
pen-human                                   10000 .99  min
pen-cloned                                  10000 .99  min
pen-expert                                   3000 .99  min
door-human                                  30000 .99  min
door-cloned                                 30000 .99  min
door-expert                                 30000 .99  min
hammer-human                                30000 .99  min
hammer-cloned                               10000 .99  min
hammer-expert                               30000 .99  min
relocate-human                              10000 .99  min
relocate-cloned                             30000 .99  min
relocate-expert                             30000 .99  min
antmaze-large-navigate-singletask-v0           10 .99  min
antmaze-giant-navigate-singletask-v0           10 .995 min
humanoidmaze-medium-navigate-singletask-v0     30 .995 mean
humanoidmaze-large-navigate-singletask-v0      30 .995 mean
antsoccer-arena-navigate-singletask-v0         10 .995 mean
cube-single-play-singletask-v0                300 .99  mean
cube-double-play-singletask-v0                300 .99  mean
scene-play-singletask-v0                      300 .99  mean
puzzle-3x3-play-singletask-v0                1000 .99  mean
puzzle-4x4-play-singletask-v0                1000 .99  mean
"""
# alpha_actor and alpha_critic of ReBRAC, discount; some rows of each kind.
REBRAC = """
halfcheetah-medium                          .001 .01  .99
hopper-medium-replay                        .05  .5   .99
walker2d-expert                             .01  .5   .99
antmaze-medium-diverse                      .001 0    .999
pen-cloned                                  .05  .5   .99
relocate-human                              .1   .01  .99
antmaze-large-navigate-singletask-v0        .003 .01  .99
antmaze-giant-navigate-singletask-v0        .003 .01  .995
humanoidmaze-medium-navigate-singletask-v0  .01  .01  .995
cube-single-play-singletask-v0              1    0    .99
scene-play-singletask-v0                    .1   .01  .99
puzzle-4x4-play-singletask-v0               .3   .01  .99
"""
# beta of SRPO.
SRPO = """
halfcheetah-medium         .2
halfcheetah-medium-replay  .2
halfcheetah-medium-expert .01
hopper-medium             .05
hopper-medium-replay       .2
hopper-medium-expert      .01
walker2d-medium           .05
walker2d-medium-replay     .5
walker2d-medium-expert     .1
antmaze-umaze             .02
antmaze-umaze-diverse     .04
antmaze-medium-play       .08
antmaze-medium-diverse    .05
antmaze-large-play        .06
antmaze-large-diverse     .05
"""


def rows(table):
    return [line.split() for line in table.strip().splitlines()]


@pytest.mark.parametrize('row', rows(DTQL), ids=lambda row: row[0])
def test_TABLE__of_dtql(row):
    task, lr, alpha, gamma, decay, epochs, batch, expectile = row
    config = task_config('dtql', task)
    assert (config.lr, config.critic_lr, config.alpha) == (float(lr), 3e-4, float(alpha))
    assert (config.gamma, config.lr_decay) == (float(gamma), decay == 'yes')
    assert (config.steps, config.pretrain_steps) == (1000 * int(epochs), 50_000)
    assert (config.batch_size, config.expectile) == (int(batch), float(expectile))
    assert config.reward == ('iql_antmaze' if 'antmaze' in task else 'none')
    assert (config.candidates, config.tau, config.discount) == (1024, 0.005, 0.99)


@pytest.mark.parametrize('row', rows(DIFFUSION_QL), ids=lambda row: row[0])
def test_TABLE__of_diffusion_ql(row):
    task, lr, eta, backup, reward, epochs, norm = row
    config = task_config('diffusion_ql', task)
    assert (config.lr, config.critic_lr, config.eta) == (float(lr), 3e-4, float(eta))
    assert (config.max_q_backup, config.reward) == (backup == 'yes', reward)
    assert (config.steps, config.max_norm) == (1000 * int(epochs), float(norm))
    assert (config.batch_size, config.candidates, config.diffusion_steps) == (256, 50, 5)


@pytest.mark.parametrize('row', rows(FQL), ids=lambda row: row[0])
def test_TABLE__of_fql_and_what_ifql_takes_from_it(row):
    task, alpha, discount, aggregate = row
    config = task_config('fql', task)
    assert (config.alpha, config.discount) == (float(alpha), float(discount))
    assert (config.q_aggregate, config.normalise_q) == (aggregate, False)
    assert config.steps == (1_000_000 if 'singletask' in task else 500_000)
    d4rl_maze = task.startswith('antmaze') and 'singletask' not in task
    assert config.reward == ('iql_antmaze' if d4rl_maze else 'none')
    assert (config.lr, config.batch_size, config.tau, config.hidden) == (3e-4, 256, 0.005, 512)
    implicit = task_config('ifql', task)
    for name in ('discount', 'steps', 'reward', 'lr', 'batch_size', 'tau', 'hidden'):
        assert getattr(implicit, name) == getattr(config, name)
    assert (implicit.candidates, implicit.expectile) == (32, 0.9)


@pytest.mark.parametrize('row', rows(REBRAC), ids=lambda row: row[0])
def test_TABLE__of_rebrac(row):
    task, actor, critic, discount = row
    config = task_config('rebrac', task)
    assert (config.alpha_actor, config.alpha_critic) == (float(actor), float(critic))
    assert config.discount == float(discount)
    gym = task.startswith(('halfcheetah', 'hopper', 'walker2d'))
    assert (config.batch_size, config.lr) == ((1024, 1e-3) if gym else (256, 3e-4))


@pytest.mark.parametrize('row', rows(SRPO), ids=lambda row: row[0])
def test_TABLE__of_srpo(row):
    task, beta = row
    config, maze = task_config('srpo', task), 'maze' in task
    assert config.beta == float(beta)
    assert (config.behaviour_steps, config.critic_steps) == (2_000_000, 1_500_000)
    assert (config.steps, config.behaviour_batch_size, config.batch_size) == (1_000_000, 2048, 256)
    assert config.expectile == (0.9 if maze else 0.7)
    assert (config.normalise_q_gradient, config.policy_layers) == (maze, 4 if maze else 2)


@pytest.mark.parametrize('agent', ['iql', 'idql'])
@pytest.mark.parametrize('task', ['hopper-medium', 'antmaze-large-play'])
def test_TABLE__of_iql_and_idql(agent, task):
    config, maze = task_config(agent, task), 'maze' in task
    assert config.reward == ('iql_antmaze' if maze else 'iql_locomotion')
    assert config.expectile == (0.9 if maze else 0.7)
    if agent == 'iql':
        assert config.beta == (10.0 if maze else 3.0)
    else:
        assert (config.steps, config.batch_size, config.candidates) == (3_000_000, 512, 64)


@pytest.mark.parametrize('agent', ['iql', 'idql', 'fql', 'ifql', 'td3_bc', 'rebrac'])
@pytest.mark.parametrize('maze', ['umaze', 'medium', 'large'])
def test_TABLE__the_target_critic_of_a_pointmaze_moves_often_enough(agent, maze):
    """Each of its `1 / tau` updates carry the goal's reward about one step back."""
    task = TASKS[f'pointmaze-{maze}']
    config = task_config(agent, task.rows)
    assert config.steps * config.tau > task.horizon / 2


@pytest.mark.parametrize('maze', ['umaze', 'medium', 'large'])
def test_TABLE__idql_sees_the_place_in_a_pointmaze(maze):
    agent = IDQL(Spec(4, 2), task_config('idql', f'pointmaze-{maze}'))
    corner = jnp.array([[2.5, -2.5, 0, 0], [0.5, -0.5, 0, 0]])  # at rest, in one direction
    v = agent.v.apply(agent.v.init(jax.random.key(0), corner), corner)
    assert abs(v[0] - v[1]) > 0.01


@pytest.mark.parametrize('agent', AGENTS)
def test_TABLE__every_agent_has_small_settings_for_the_toys(agent):
    config = task_config(agent, TASKS['toy-twomoons-near'].rows)
    assert row_of(agent, TASKS['toy-twomoons-near'].rows) == 'toy'
    phases = AGENTS[agent].agent(Spec(1, 2), config).phases()
    assert sum(phase.steps for phase in phases) <= 4_000
    assert config.hidden == 128


# Which row a task uses.


@pytest.mark.parametrize('agent', AGENTS)
def test_TABLE__every_row_is_the_row_of_some_task(agent):
    """Else a row would be ignored without a word."""
    used = {row_of(agent, task.rows) for task in TASKS.values()}
    assert set(AGENTS[agent].table) - used == set()


@pytest.mark.parametrize('agent', ['dtql', 'diffusion_ql', 'dql_kl', 'bc'])
@pytest.mark.parametrize(
    ('task', 'row'),
    [
        ('halfcheetah-medium', 'halfcheetah-medium'),
        ('halfcheetah-medium-v2', 'halfcheetah-medium'),
        ('antmaze-large-diverse-v2', 'antmaze-large-diverse'),
        ('door-expert', 'door-expert'),
        ('antmaze-giant-navigate-singletask-task3-v0', 'ogbench-long-maze'),
        ('cube-single-play-singletask-task2-v0', 'ogbench-hand'),
    ],
)
def test_row_of__a_published_task(agent, task, row):
    assert row_of(agent, TASKS[task].rows) == row


SET, OWN = 'cube-single-play-singletask-v0', 'cube-single-play-singletask-task2-v0'


@pytest.fixture
def own_rows(monkeypatch):
    """An agent with rows for one OGBench task, for its set and for its group."""
    table = {'ogbench-hand': {'steps': 1}, SET: {'steps': 2}, OWN: {'steps': 3}}
    monkeypatch.setattr('dtql_jax.agents.registry.AGENTS', dict(AGENTS))
    register_agent('with_rows', type('WithRows', (Agent,), {}), table)


@pytest.mark.parametrize(
    ('task', 'row', 'steps'),
    [
        (OWN, OWN, 3),  # its own name first
        ('cube-single-play-singletask-task3-v0', SET, 2),  # then the set of the five tasks
        (SET, SET, 2),
        ('cube-single-noisy-singletask-task2-v0', 'ogbench-hand', 1),  # then the group
        ('scene-play-singletask-v0', 'ogbench-hand', 1),
        ('hopper-medium', None, 1_000_000),
    ],
)
def test_row_of__the_nearest_name_wins(own_rows, task, row, steps):
    rows = TASKS[task].rows
    assert row_of('with_rows', rows) == row
    assert task_config('with_rows', rows).steps == steps


def test_row_of__takes_one_name_or_several_or_none():
    assert row_of('dtql', 'pen-human') == 'pen-human'
    assert row_of('dtql', ('pen', 'pen-cloned', 'pen-human')) == 'pen-cloned'
    assert row_of('dtql', ('pen', 'adroit')) is None
    assert row_of('dtql', ()) is None


def test_hands__gives_experts_the_row_of_cloned_data():
    table = hands(human={'lr': 1.0}, cloned={'lr': 2.0})
    assert len(table) == 12
    assert table['relocate-human'] == {'lr': 1.0}
    assert table['door-cloned'] == table['door-expert'] == {'lr': 2.0}


def test_task_config__is_defaults_then_row_then_changes():
    config = task_config('dtql', TASKS['pen-cloned'].rows, {'alpha': '2', 'tau': 0.5})
    assert (config.alpha, config.tau, config.lr) == (2.0, 0.5, 1e-5)
    defaults = task_config('dtql', ())
    assert dataclasses.replace(config, **dataclasses.asdict(defaults)) == defaults
