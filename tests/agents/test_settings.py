"""Per-task settings number by number, as the released codes' scripts have them.

The rows are written out again in the columns of those scripts, so that a slip in a table is seen.
"""

import pytest

from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.types import UserError

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
def test_dtql(row):
    task, lr, alpha, gamma, decay, epochs, batch, expectile = row
    config = task_config('dtql', task)
    assert (config.lr, config.critic_lr, config.alpha) == (float(lr), 3e-4, float(alpha))
    assert (config.gamma, config.lr_decay) == (float(gamma), decay == 'yes')
    assert (config.steps, config.pretrain_steps) == (1000 * int(epochs), 50_000)
    assert (config.batch_size, config.expectile) == (int(batch), float(expectile))
    assert config.reward == ('iql_antmaze' if 'antmaze' in task else 'none')
    assert (config.candidates, config.tau, config.discount) == (1024, 0.005, 0.99)


@pytest.mark.parametrize('row', rows(DIFFUSION_QL), ids=lambda row: row[0])
def test_diffusion_ql(row):
    task, lr, eta, backup, reward, epochs, norm = row
    config = task_config('diffusion_ql', task)
    assert (config.lr, config.critic_lr, config.eta) == (float(lr), 3e-4, float(eta))
    assert (config.max_q_backup, config.reward) == (backup == 'yes', reward)
    assert (config.steps, config.max_norm) == (1000 * int(epochs), float(norm))
    assert (config.batch_size, config.candidates, config.diffusion_steps) == (256, 50, 5)


@pytest.mark.parametrize('row', rows(SRPO), ids=lambda row: row[0])
def test_srpo(row):
    task, beta = row
    config, maze = task_config('srpo', task), 'maze' in task
    assert config.beta == float(beta)
    assert (config.behaviour_steps, config.critic_steps) == (2_000_000, 1_500_000)
    assert (config.steps, config.behaviour_batch_size, config.batch_size) == (1_000_000, 2048, 256)
    assert config.expectile == (0.9 if maze else 0.7)
    assert (config.normalise_q_gradient, config.policy_layers) == (maze, 4 if maze else 2)


@pytest.mark.parametrize('agent', ['iql', 'idql'])
@pytest.mark.parametrize('task', ['hopper-medium', 'antmaze-large-play'])
def test_iql_and_idql(agent, task):
    config, maze = task_config(agent, task), 'maze' in task
    assert config.reward == ('iql_antmaze' if maze else 'iql_locomotion')
    assert config.expectile == (0.9 if maze else 0.7)
    if agent == 'iql':
        assert config.beta == (10.0 if maze else 3.0)
    else:
        assert (config.steps, config.batch_size, config.candidates) == (3_000_000, 512, 64)


@pytest.mark.parametrize('agent', AGENTS)
def test_every_agent_has_a_precision_of_three(agent):
    assert task_config(agent, '').precision == 'highest'
    assert task_config(agent, '', {'precision': 'default'}).precision == 'default'
    with pytest.raises(UserError, match='precision=float16: must be one of default, high, highest'):
        task_config(agent, '', {'precision': 'float16'})
