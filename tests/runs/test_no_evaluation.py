"""Runs without an evaluation: because there is no environment, or because none is asked for."""

import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import evaluate, train
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.extend import check_resume
from dtql_jax.runs.folder import read_run, request_of_run
from dtql_jax.runs.plan import make_plan
from dtql_jax.runs.policy import Run
from dtql_jax.tasks import registry as tasks
from dtql_jax.types import UserError
from tests.helpers.small_runs import CLONING, ENV, pendulum_arrays, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here', 'no_workers')

TINY = {'agent': 'bc', 'hidden': 8, 'batch_size': 8, 'steps': 4, 'eval_every': 2, 'num_seeds': 2}
CUT = np.isin(np.arange(40), [19])


@pytest.fixture
def robot(monkeypatch):
    """A task without an environment."""
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    return dtql_jax.register_task(dtql_jax.Task('robot', normalize_obs=True))


def data(**changes):
    return {**pendulum_arrays(**changes), 'timeouts': CUT}


@pytest.fixture
def alone(here, robot):
    """The folder of a run of that task, its result, and what a callback was told."""
    events = []
    told = [lambda event: events.append((event.kind, event.step, len(event.rows)))]
    result = dtql_jax.run({'env': 'robot', **TINY}, data=data(), out='alone', callbacks=told)
    return here / 'alone', result, events


def test_run__without_an_environment(alone, capsys):
    run_dir, result, events = alone
    assert events == [('log', 2, 2), ('log', 4, 2), ('end', 4, 0)]
    # The table says so, and there is no score, not even 0.
    assert result.table.splitlines()[-1].split() == ['bc', '2', 'no', 'evaluation', '-', '-', '-']
    assert (result.evals, result.scores('bc'), result.failed) == ([], [], False)
    assert read_jsonl(run_dir / 'eval.jsonl') == []
    assert result.curves.is_file()
    recorded = read_run(run_dir)
    assert recorded['identity']['eval_episodes'] == 0
    assert recorded['identity']['task']['normalize_obs'] is True
    assert recorded['data']['environment'] is None
    # The policy sees and answers in the units of the data.
    spec, columns = Run(run_dir).agent.spec, pendulum_arrays()
    np.testing.assert_allclose(spec.obs_mean, columns['observations'].mean(0), atol=1e-6)
    np.testing.assert_allclose(spec.action_high, columns['actions'].max(0), atol=1e-6)
    action = dtql_jax.load_policy(run_dir)(columns['observations'][0])
    assert (action >= spec.action_low).all()
    assert (action <= spec.action_high).all()
    with pytest.raises(UserError, match="has no evaluation, so no best policy: use 'last'"):
        dtql_jax.load_policy(run_dir, which='best')
    error = refused(capsys, evaluate.main, '--run=alone')
    assert error.startswith('robot: it has no environment, and no dataset that records one')
    # A resume needs the same data and keeps the settings.
    assert dtql_jax.run({}, data=data(), out='alone', resume=True).evals == []
    with pytest.raises(UserError, match=r'task\.normalize_obs: the run has True, asked for False'):
        dtql_jax.run({'normalize_obs': False}, data=data(), out='alone', resume=True)
    with pytest.raises(UserError, match='`eval_episodes`=3: robot has no environment to play in'):
        dtql_jax.run({'eval_episodes': 3}, data=data(), out='alone', resume=True)
    # A run of a version without one of these settings did as it says by default.
    recorded = read_run(run_dir)
    assert recorded['identity']['task'].pop('columns') == {}
    assert recorded['identity']['config'].pop('gradient_norms') is False
    check_resume(make_plan(request_of_run(recorded, {})), recorded, run_dir)


@pytest.mark.slow
def test_run__no_episodes_of_a_task_that_has_an_environment(here, capsys):
    flags = ['dtql train', f'--env={ENV}', *CLONING, '--steps=4', '--eval_every=2', '--num_seeds=1']
    assert train.main([*flags, '--eval_episodes=0', '--out=none']) == 0
    output = capsys.readouterr().out
    assert 'evaluation none\n' in output
    assert 'no evaluation' in output
    assert 'evaluation at' not in output
    # The rows of training are those of a run that evaluates, which a resume does from then on.
    assert train.main([*flags, '--eval_episodes=1', '--out=some']) == 0
    assert rows('none') == rows('some')
    assert train.main(['dtql train', '--out=none', '--resume', '--eval_episodes=1']) == 0
    last = [[row['eval/score'] for row in read_jsonl(f'{run}/eval.jsonl') if row['step'] == 4]
            for run in ('none', 'some')]  # fmt: skip
    assert last[0] == last[1] != []


def rows(run):
    """The rows of metrics without their times."""
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in read_jsonl(f'{run}/metrics.jsonl')
    ]


def test_run__files_without_an_environment(here, no_training):
    fields = {name: values for name, values in data().items() if name != 'observations'}
    np.savez('robot.npz', obs=data()['observations'], **fields)
    result = dtql_jax.run({'env': 'files:robot.npz', **TINY, 'steps': 2}, out='files')
    recorded = read_run(result.run_dir)
    assert recorded['request']['env'] == f'files:{here}/robot.npz'
    assert recorded['data']['source'] == 'files'
    assert dtql_jax.run({}, out='files', resume=True).evals == []
    assert [(trainer.evaluate, resume) for trainer, resume in no_training] == [
        (None, False), (None, True),
    ]  # fmt: skip


def test_run__callbacks_must_be_functions(here):
    with pytest.raises(UserError, match=r"`callbacks`: 'print' is no function of an event"):
        dtql_jax.run({'env': ENV, **TINY}, callbacks=['print'])
