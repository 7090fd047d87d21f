"""Runs that choose three actions at once: `horizon_length`=3."""

import json
import runpy

import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import evaluate, train
from dtql_jax.data.load import load
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.rollout.evaluate import start_seed
from dtql_jax.runs import policy, trust
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.policy import Run
from dtql_jax.tasks.env import make_env
from dtql_jax.types import UserError
from tests.helpers import toy
from tests.helpers.small_runs import CLONING, ENV, FLAGS, SHORT, make_run, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here', 'no_workers')

H = 3
CHUNKS = [f'--horizon_length={H}', '--num_seeds=1']
OBS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(scope='module')
def chunked(tmp_path_factory, quick_compile):
    """The folder of a run, and what the command said."""
    return make_run(tmp_path_factory.getbasetemp(), 'chunks', *CLONING, *CHUNKS)


@pytest.fixture(scope='module')
def run(chunked):
    return Run(chunked[0])


def test_run__sees_windows_and_counts_steps(chunked, run):
    rows = load(run.task).card['transitions']
    # Each episode of the data ends by a termination, so every row begins a window.
    assert f'{rows:,} windows of 3 steps' in chunked[1]
    assert (run.agent.spec.action_dim, run.agent.spec.horizon_length) == (H, H)
    for row in read_jsonl(run.run_dir / 'eval.jsonl'):  # each step but the last earns 1
        assert row['eval/length'] == row['eval/return'] + 1


@pytest.mark.parametrize('agent', [CLONING, pytest.param(FLAGS, marks=pytest.mark.slow)])
def test_run__resumes_bit_for_bit(agent, tmp_path_factory, capsys):
    name = 'chunks' if agent is CLONING else 'chunks-of-dtql'
    whole, _ = make_run(tmp_path_factory.getbasetemp(), name, *agent, *CHUNKS)
    given = [f'--env={ENV}', *agent, *CHUNKS, *SHORT]
    assert train.main(['dtql train', *given, '--out=stopped', '--steps=3']) == 0
    assert train.main(['dtql train', '--out=stopped', '--resume', '--steps=5']) == 0
    ours, theirs = Run('stopped'), Run(whole)
    assert ours.cursor.step == theirs.cursor.step == 5
    assert toy.equal(ours.progress.state, theirs.progress.state)


def test_load_policy__returns_the_chunk_that_evaluation_plays(run):
    act = policy.policy_of(run, 0, 'last')
    env = make_env(run.task)
    obs, _ = env.reset(seed=start_seed(0, 0))
    total, planned, done = 0.0, [], False
    while not done:
        planned = planned or list(act(obs))
        obs, reward, terminated, truncated, _ = env.step(planned.pop(0))
        total, done = total + reward, terminated or truncated
    assert read_jsonl(run.run_dir / 'eval.jsonl')[-1]['episode/return'][0] == total
    many = policy.policy_of(run, 0, 'last', batch=5)(OBS)
    assert (many.shape, act(OBS[0]).shape) == ((5, H, 1), (H, 1))
    assert np.abs(many).max() <= 3


def test_evaluate__plays_chunks_again(run, capsys):
    assert evaluate.main(['dtql evaluate', f'--run={run.run_dir}', '--episodes=2']) == 0
    again, before = (read_jsonl(run.run_dir / f'{name}.jsonl')[-1] for name in ('reeval', 'eval'))
    assert again['episode/return'] == before['episode/return']


def test_trust_region__is_one_of_chunks(run):
    found = trust.trust_of(run, 0, levels=2, draws=1)
    assert found(OBS, np.zeros((5, H))).shape == (5,)
    assert np.isfinite(found.threshold(0.95))  # of the windows of the data
    with pytest.raises(UserError, match=r'the trust region takes \[4\] and \[3\]'):
        found(OBS, np.zeros((5, 1)))


def test_export__writes_the_chunk_and_says_so(run, here):
    folder = dtql_jax.export(run.run_dir, here / 'exported', 'numpy')
    config = json.loads((folder / 'config.json').read_text())
    assert (config['action'], config['horizon_length']) == ([H], H)
    card = (folder / 'README.md').read_text()
    assert '3 actions of 1 numbers, to play before the next observation' in card
    exported = runpy.run_path(str(folder / 'policy.py'))['Policy'](folder)
    assert exported.deterministic(OBS[0]).shape == (H,)


def test_make_plan__one_action_is_the_default():
    with_one = make_plan(make_request({'env': ENV, 'horizon_length': 1}))
    assert with_one.identity() == make_plan(make_request({'env': ENV})).identity()


@pytest.mark.parametrize(('flags', 'message'), [
    (['--horizon_length=0'], '--horizon_length=0: must be at least 1'),
    (['--horizon_length=1000'], '--horizon_length=1000: the longest episode of '),
    (['--agent=rebrac', '--horizon_length=2'], 'the agent reads next_row_action of single rows'),
])  # fmt: skip
def test_main__mistakes(flags, message, capsys, compiled):
    assert message in refused(capsys, train.main, f'--env={ENV}', *flags)
    assert not compiled


def test_init_from__another_number_of_actions_is_refused(run, capsys):
    given = [f'--env={ENV}', *CLONING, '--num_seeds=1', f'--init_from={run.run_dir}']
    assert 'actions of size 3, this run of size 1' in refused(capsys, train.main, *given)
