"""Runs that go on in a real environment: what is refused, and what survives a SIGKILL."""

import shutil
import signal

import numpy as np
import pytest

import dtql_jax
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.dtql import Config as DTQLConfig
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs import extend
from dtql_jax.runs.forecast import new_bytes
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.policy import Run
from dtql_jax.runs.task_settings import check_online
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers import toy
from tests.helpers.extended import CLONED
from tests.helpers.small_runs import ENV, process

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')

ONLINE = {**CLONED, 'online_steps': 60, 'eval_every': 20, 'eval_episodes': 1}


class Returns(DTQL):
    """It learns from returns, which are not known of a new row."""

    columns = ('return_to_go',)


@pytest.mark.parametrize(
    ('datasets', 'agent', 'expected'),
    [
        (
            ('cart.csv',),
            DTQL,
            '`online_steps`=3: cart has no environment to go on in: leave it out, or name one: '
            'register_task(Task(..., env_id=...))',
        ),
        (
            ('me/cart-v0',),
            Returns,
            '`online_steps`=3: Returns cannot go on in the environment, as its column '
            "'return_to_go' is not known of a new row: leave it out, or name another `agent`",
        ),
    ],
)
def test_check_online__what_cannot_go_on_is_one_line(datasets, agent, expected):
    task = Task('cart', datasets)
    check_online(task, agent, DTQLConfig(), None)
    with pytest.raises(UserError) as error:
        check_online(task, agent, DTQLConfig(online_steps=3), None)
    assert str(error.value) == expected


def test_check_online__new_rows_are_no_chunks():
    config = DTQLConfig(online_steps=3, horizon_length=2)
    with pytest.raises(UserError, match='no chunks of `horizon_length`=2: leave one of the two'):
        check_online(Task('cart', ('me/cart-v0',)), DTQL, config, None)


def test_run__an_agent_with_frozen_parts_is_refused_before_all_else(here, compiled):
    with pytest.raises(UserError, match='SRPO cannot go on in the environment, as its last phase'):
        dtql_jax.run({'env': ENV, 'agent': 'srpo', 'online_steps': 3}, out='x')
    assert not compiled
    assert not (here / 'x').exists()


def test_describe__tells_the_budget_and_the_memory_of_new_rows(here, capsys):
    dtql_jax.run({**ONLINE, 'online_steps': 1 << 20}, out='x', dry_run=True)
    text = capsys.readouterr().out
    assert 'train 5 x 8, online 1,048,576 x 8' in text
    # A row has 2 x 4 numbers of observations, an action, a reward and a mask; there are two seeds.
    assert f'{2 * 11 * 4} MiB new rows' in text
    agent = make_plan(make_request(ONLINE)).agent(dtql_jax.Spec(4, 1), toy.Config(online_steps=3))
    engine = toy.engine(toy.lanes(1, 2), online_steps=3)
    assert new_bytes(engine) == 2 * 3 * 4 * 10
    assert agent.config.online_steps == 3


@pytest.mark.parametrize(
    ('then', 'now', 'step', 'expected'),
    [
        ({}, {'online_steps': 5}, 5, None),
        ({'online_steps': 5}, {'online_steps': 9}, 8, None),
        ({'online_steps': 5}, {'online_steps': 2}, 8, '`online_steps`=2: x has made 8 updates'),
        ({'online_steps': 5}, {'steps': 6}, 8, '`steps`=6: x goes on in the environment since'),
        ({'online_steps': 5}, {'steps': 6}, 5, None),
        ({'online_steps': 5}, {'steps': 3}, 4, '`steps`=3: x has made 4 updates already'),
    ],
)
def test_check_end__what_was_made_stays(then, now, step, expected):
    def agent(**changes):
        return toy.Toy(dtql_jax.Spec(3, 2), toy.Config(pretrain_steps=0, **{'steps': 5} | changes))

    before, after = agent(**then), agent(**{**then, **now})
    if expected is None:
        extend._check_end(before, after, step, 'x')
    else:
        with pytest.raises(UserError) as error:
            extend._check_end(before, after, step, 'x')
        assert str(error.value).startswith(expected)


def rows(folder, log):
    return [
        {key: value for key, value in row.items() if not key.startswith('time/')}
        for row in read_jsonl(folder / f'{log}.jsonl')
    ]


def assert_same(folder, whole):
    ours, theirs = Run(folder), Run(whole)
    assert toy.equal(ours.progress, theirs.progress)
    assert ours.cursor.exploring == theirs.cursor.exploring
    for log in ('metrics', 'eval'):
        assert rows(folder, log) == rows(whole, log)


STRUCK = """
import os, signal
import dtql_jax
from dtql_jax.rollout.explorer import Explorer
from dtql_jax.training import loop

loop.SAVE_SECONDS = loop.DISPATCH_SECONDS = 0.0
step, left = Explorer.step, [{steps}]

def strike(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)

Explorer.step = strike
dtql_jax.run({request}, out='x', resume={resume})
"""


@pytest.mark.slow
def test_run__a_sigkill_in_the_environment_costs_no_bit(here):
    """Two processes of their own are killed between a step and the next; this one ends the run."""
    whole = dtql_jax.run(ONLINE, out='whole').run_dir
    assert [row['step'] for row in rows(whole, 'eval')][::2] == [5, 25, 45, 65]
    told = [row for row in rows(whole, 'metrics') if row['phase'] == 'online']
    assert sum(row.get('explore/episodes', 0) for row in told) > 4
    for steps, resume, reached in ((17, False, 22), (13, True, 35)):
        script = STRUCK.format(steps=steps, request=ONLINE, resume=resume)
        assert process('-c', script).returncode == -signal.SIGKILL
        assert extend.reached(here / 'x') == reached
    dtql_jax.run({}, out='x', resume=True)
    assert_same(here / 'x', whole)
    assert np.isfinite(dtql_jax.load_policy('x')(np.zeros(4))).all()


@pytest.mark.slow
def test_run__a_finished_run_goes_on_as_if_it_had_been_asked_for_it(cloned, here):
    shutil.copytree(cloned, 'x')
    asked = {'online_steps': 60, 'eval_every': 20}
    dtql_jax.run(asked, out='x', resume=True)
    dtql_jax.run({**CLONED, **asked}, out='whole')
    ours, theirs = Run('x'), Run('whole')
    for part in ('state', 'sums', 'snapshot', 'buffer'):
        assert toy.equal(getattr(ours.progress, part), getattr(theirs.progress, part)), part
    assert ours.description['extended'][0]['changed']['online_steps'] == [0, 60]
