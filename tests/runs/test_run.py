"""`run`: its data, its folder, its variants, and that it resumes."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import evaluate, train
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.folder import commit, read_run, task_of_run
from dtql_jax.runs.policy import Run
from dtql_jax.tasks import registry as tasks
from dtql_jax.types import Transition, UserError
from tests.helpers import toy
from tests.helpers.small_runs import CLONING, ENV, pendulum_arrays, pendulum_file, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')

TASK = dtql_jax.Task('mine', ('no/where-v0',), env_id='InvertedPendulum-v5', horizon=9)


@pytest.fixture
def own_task(monkeypatch):
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    return dtql_jax.register_task(TASK)


def test_run__writes_its_folder(trained):
    run_dir, _ = trained
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {
        'config.json', 'metrics.jsonl', 'eval.jsonl', 'curves.png', 'table.txt', 'checkpoints',
    }  # fmt: skip
    config = json.loads((run_dir / 'config.json').read_text())
    assert config['versions']['jax'] == jax.__version__
    assert config['commit'] == commit()
    assert config['identity']['config']['hidden'] == 8
    assert config['format'] == 3
    assert config['agent_file'] is None


# Tasks and data.


def test_run__own_tasks_and_datasets(here, no_training, minari_root, monkeypatch):
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    dtql_jax.register_task(
        dtql_jax.Task('mine', ('test/pendulum-v0',), env_id='InvertedPendulum-v5', horizon=9)
    )
    assert dtql_jax.run({'env': 'mine', 'agent': 'bc'}, out='own').evals == []
    ((trainer, resume),) = no_training
    assert not resume
    assert trainer.evaluate.task.horizon == 9
    # A folder takes the place of the task's set, also for the environment; kept as a whole path.
    monkeypatch.chdir(minari_root)
    path = 'test/pendulum-v0'
    monkeypatch.delenv('MINARI_DATASETS_PATH')
    request = {'env': 'minari:no/where-v0', 'dataset_path': path, 'agent': 'bc'}
    dtql_jax.run(request, out=here / 'other')
    recorded = read_run(here / 'other')
    assert recorded['request']['dataset_path'] == str(minari_root / path)
    assert task_of_run(recorded).datasets == (str(minari_root / path),)


@pytest.mark.parametrize('path', ['own-v2.hdf5', 'own-v0.npz'])
def test_run__a_file_as_dataset(path, here, no_training, own_task, capsys):
    pendulum_file(path)
    flags = ['dtql train', '--env=mine', f'--dataset_path={path}', *CLONING]
    assert train.main([*flags, '--dry_run']) == 0
    output = capsys.readouterr().out
    assert f'data     {here / path}' in output
    assert 'action 1 in ±3' in output
    # A run records the file's fingerprint, and goes on with these data only.
    assert train.main([*flags, '--out=own']) == 0
    recorded = read_run(here / 'own')
    assert recorded['request']['dataset_path'] == str(here / path)
    assert recorded['data']['datasets'] == [str(here / path)]
    assert train.main(['dtql train', '--out=own', '--resume']) == 0
    assert [resume for _, resume in no_training] == [False, True]
    pendulum_file(path, reward=2.0)
    capsys.readouterr()
    error = refused(capsys, train.main, '--out=own', '--resume')
    assert "own cannot be resumed with these settings: data: the run has '" in error


def test_run__the_data_of_another_task_are_refused(here, capsys):
    pendulum_file('own-v2.hdf5', bound=1.0)
    error = refused(capsys, train.main, '--env=hopper-medium-v2', '--dataset_path=own-v2.hdf5')
    assert error == (
        'hopper-medium-v2: the environment has observation size 11, the data 4: is it the data of '
        'another task?'
    )


def arrays(**changes):
    """The arrays of `pendulum_arrays` with their next observations."""
    data = pendulum_arrays(**changes)
    return {**data, 'next_observations': np.roll(data['observations'], -1, axis=0)}


def test_run__a_resume_needs_the_same_arrays(here, no_training, own_task, capsys):
    data = arrays()
    dtql_jax.run({'env': 'mine', 'agent': 'bc', 'hidden': 8}, data=data, out='own')
    assert read_run(here / 'own')['data']['source'] == 'arrays'
    assert dtql_jax.run({}, data=data, out='own', resume=True)
    columns = ('observations', 'actions', 'rewards', 'masks', 'next_observations')
    same = {**data, 'masks': 1 - data['terminals']}
    assert dtql_jax.run(
        {'env': 'mine'}, data=Transition(*[same[name] for name in columns]), out='own', resume=True
    )
    assert [resume for _, resume in no_training] == [False, True, True]
    with pytest.raises(UserError, match=r"own cannot be resumed .* data: the run has '"):
        dtql_jax.run({}, data=arrays(reward=2.0), out='own', resume=True)
    with pytest.raises(UserError, match='own was trained on arrays: resume it from Python, with t'):
        dtql_jax.run({}, out='own', resume=True)
    assert refused(capsys, train.main, '--out=own', '--resume').endswith('the same ones as data')
    pendulum_file('own.npz')
    with pytest.raises(UserError, match='arrays are given as `data` too; keep one'):
        dtql_jax.run({'env': 'mine', 'dataset_path': 'own.npz'}, data=data, out='other')


def test_run__without_a_folder_a_run_goes_to_the_default_one(here, no_training, own_task):
    request = {'env': 'mine', 'agent': 'bc', 'hidden': 8}
    assert dtql_jax.run(request, data=arrays()).run_dir == here / 'runs/mine-bc'
    assert dtql_jax.run(request, data=arrays(), resume=True)
    with pytest.raises(UserError, match='runs/mine-bc exists and is never overwritten'):
        dtql_jax.run(request, data=arrays())


def test_run__a_request_object_resumes_too(here, no_training):
    request = dtql_jax.Request(env=ENV, agent='bc', num_seeds=1, settings={'hidden': 8})
    dtql_jax.run(request, out='x')
    dtql_jax.run(request, out='x', resume=True)
    assert [resume for _, resume in no_training] == [False, True]
    with pytest.raises(UserError, match=r'config\.hidden: the run has 8, asked for 9'):
        dtql_jax.run(dataclasses.replace(request, settings={'hidden': 9}), out='x', resume=True)


# Variants, and a quick resume: test_resume.py kills real processes.

VARIANTS = {'low': {'expectile': 0.6}, 'high': {'expectile': '0.9', 'lr': 1e-3}}
REQUEST = {
    'env': 'mine', 'agent': 'iql', 'num_seeds': 2, 'variants': VARIANTS, 'hidden': 8,
    'batch_size': 8, 'steps': 6, 'eval_every': 2, 'eval_episodes': 1,
}  # fmt: skip


class Stopping(Console):
    """Sends this process a signal after the first evaluation."""

    def evaluated(self, *args, **kwargs):
        super().evaluated(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope='module')
def variants(tmp_path_factory, quick_compile):
    """Two runs of the variants on arrays: undisturbed, and stopped and resumed."""
    folder = tmp_path_factory.mktemp('variants')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
        dtql_jax.register_task(TASK)
        whole = dtql_jax.run(REQUEST, data=arrays(), out=folder / 'whole')
        with pytest.raises(dtql_jax.Interrupted) as stopped:
            dtql_jax.run(REQUEST, data=arrays(), out=folder / 'stopped', console=Stopping())
        assert (stopped.value.signal, stopped.value.run_dir) == (15, folder / 'stopped')
        assert Run(folder / 'stopped').cursor.step < 6
        resumed = dtql_jax.run({}, data=arrays(), out=folder / 'stopped', resume=True)
    return whole, resumed


def rows(run_dir, log):
    """The rows of a log without their times."""
    found = read_jsonl(run_dir / log)
    return [{k: v for k, v in row.items() if not k.startswith('time/')} for row in found]


@pytest.mark.slow
def test_run__a_run_that_is_stopped_ends_as_if_it_were_not(variants):
    whole, resumed = variants
    for log in ('metrics.jsonl', 'eval.jsonl'):
        assert rows(whole.run_dir, log) == rows(resumed.run_dir, log)
    assert toy.equal(Run(whole.run_dir).progress, Run(resumed.run_dir).progress)
    assert whole.table == resumed.table


@pytest.mark.slow
def test_run__variants_are_lanes_with_labels_of_their_own(variants):
    result, _ = variants
    labels = [('low', 0), ('low', 1), ('high', 0), ('high', 1)]
    assert [(lane.variant, lane.seed) for lane in result.lanes] == labels
    for log in ('metrics.jsonl', 'eval.jsonl'):
        last = [(r['variant'], r['seed']) for r in rows(result.run_dir, log) if r['step'] == 6]
        assert sorted(last) == sorted(labels)
    assert {line.split()[0] for line in result.table.splitlines()} >= {'low', 'high'}
    assert len(result.scores('low')) == len(result.scores('high')) == 2
    # The lanes did train with their own settings.
    state = Run(result.run_dir).progress.state
    np.testing.assert_allclose(state.hparams['expectile'], [0.6, 0.6, 0.9, 0.9], rtol=1e-6)
    weights = jax.tree.leaves(toy.lane(state.params, 0, 2))
    assert any((weight[0] != weight[1]).any() for weight in weights)


@pytest.mark.slow
def test_run__variants_are_loaded_and_evaluated_by_label_without_the_data(variants, capsys):
    """Nor is the task known here."""
    run_dir = variants[0].run_dir
    obs = np.ones(4)
    low, high = (dtql_jax.load_policy(run_dir, 1, variant=name)(obs) for name in VARIANTS)
    assert (low != high).any()
    assert (dtql_jax.load_policy(run_dir, 1)(obs) == low).all()
    with pytest.raises(UserError, match="has no variant 'iql'; there are: low, high"):
        dtql_jax.load_policy(run_dir, variant='iql')
    flags = [f'--run={run_dir}', '--variant=high', '--episodes=1']
    assert evaluate.main(['dtql evaluate', *flags]) == 0
    again = [row for row in rows(run_dir, 'reeval.jsonl') if row['variant'] == 'high'][-2:]
    last = [row for row in rows(run_dir, 'eval.jsonl') if row['variant'] == 'high'][-2:]
    assert [row['eval/score'] for row in again] == [row['eval/score'] for row in last]


@pytest.mark.slow
def test_run__other_variants_are_refused_at_a_resume(variants):
    with pytest.raises(UserError, match=r'lanes: the run has .* asked for'):
        dtql_jax.run(
            {'variants': {'low': {'expectile': 0.7}}, 'env': ENV},
            out=variants[0].run_dir,
            resume=True,
        )
