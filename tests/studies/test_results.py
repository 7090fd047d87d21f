"""Results of many runs: where they are found, records, and the flat table."""

import math
import shutil

import numpy as np
import pytest

import dtql_jax
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.studies.results import find_runs, read_runs
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions
from tests.helpers.result_files import evaluation, metric, write_config, write_results_of
from tests.helpers.run_files import write
from tests.helpers.small_runs import process

IDENTITY = ['job', 'run', 'task', 'dataset', 'source', 'agent', 'variant']
load = dtql_jax.load_results


@pytest.fixture
def run(tmp_path):
    """A run of two seeds and two evaluations; its rows are `rows(run)`."""
    write_results_of(tmp_path / 'a')
    return tmp_path / 'a'


def rows(run_dir):
    return read_jsonl(run_dir / 'eval.jsonl')


def rewrite(run_dir, change):
    """Replaces the rows of an `eval.jsonl` by changed ones."""
    changed = [change(row) for row in rows(run_dir)]
    (run_dir / 'eval.jsonl').unlink()
    write(run_dir, 'eval.jsonl', changed)


def one_line(work, *arguments, **options):
    """The message of a UserError."""
    with pytest.raises(UserError) as error:
        work(*arguments, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


# The flat table.


def test_load_results__an_evaluation_is_a_row(run):
    table = load(run)
    numbers = ['score', 'return', 'length', 'success', 'episodes']
    assert list(table) == [
        *IDENTITY, 'seed', 'step', *numbers, 'failed', 'diverged_at', 'elapsed_s',
    ]  # fmt: skip
    assert [len(column) for column in table.values()] == [4] * len(table)
    for i, row in enumerate(rows(run)):
        assert table['seed'][i] == row['seed']
        assert table['step'][i] == row['step']
        assert table['elapsed_s'][i] == row['step'] / 10
        for name in ('score', 'return', 'length', 'episodes'):
            assert table[name][i] == row[f'eval/{name}']
    assert [table[name][0] for name in IDENTITY] == [
        'a', str(run), 'hopper-medium', 'mujoco/hopper-medium-v0', 'minari', 'dtql', 'dtql',
    ]  # fmt: skip
    assert np.isnan(table['success']).all()
    assert np.isnan(table['diverged_at']).all()
    assert set(table['failed']) == {''}
    assert {table[name].dtype for name in ('seed', 'step', 'episodes')} == {np.dtype(int)}


def test_load_results__an_episode_is_a_row(run):
    table = load(run, per='episode')
    assert list(table) == [
        *IDENTITY, 'seed', 'step', 'episode', 'score', 'return', 'length', 'success',
    ]  # fmt: skip
    assert table['episode'].tolist() == [0, 1, 2] * 4
    assert table['seed'].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    for name in ('score', 'return', 'length'):
        assert table[name].tolist() == [x for row in rows(run) for x in row[f'episode/{name}']]
    assert np.isnan(table['success']).all()


def test_load_results__success_and_a_task_without_a_score(run):
    def change(row):
        success = {'eval/success': 0.5, 'episode/success': [1.0, 0.0, math.nan]}
        return {**{k: v for k, v in row.items() if k != 'episode/score'}, **success}

    rewrite(run, change)
    assert load(run)['success'].tolist() == [0.5] * 4
    table = load(run, per='episode')
    assert table['score'].tolist() == table['return'].tolist()
    np.testing.assert_array_equal(table['success'], [1, 0, math.nan] * 4)


def test_load_results__an_evaluation_that_failed_has_a_reason_and_no_episodes(run):
    failed = {'step': 200, 'variant': 'dtql', 'seed': 1, 'eval/failed': 'NaN', 'eval/episodes': 3}
    write(run, 'eval.jsonl', [failed])
    table = load(run)
    assert table['failed'].tolist() == ['', '', '', '', 'NaN']
    assert np.isnan(table['score']).tolist() == [False] * 4 + [True]
    assert len(load(run, per='episode')['step']) == 12


def test_load_results__runs_without_results_per_episode_are_named(run, tmp_path):
    write_results_of(tmp_path / 'old')
    expected = load(tmp_path)
    rewrite(tmp_path / 'old', lambda row: {k: v for k, v in row.items() if 'episode/' not in k})
    table = load(tmp_path)
    for name, column in expected.items():
        np.testing.assert_array_equal(table[name], column)
    assert one_line(load, tmp_path, per='episode') == (
        f'{tmp_path}/old has evaluations without results per episode, which an earlier version '
        "wrote: use `per`='evaluation', or leave that run out"
    )


@pytest.mark.parametrize('per', ['evaluation', 'episode'])
def test_load_results__of_a_run_without_evaluations_has_columns_and_no_rows(tmp_path, per):
    write_config(tmp_path / 'new', [('dtql', 0, {})])
    table = load(tmp_path / 'new', per)
    assert {len(column) for column in table.values()} == {0}
    assert [table[name].dtype for name in ('job', 'seed', 'score')] == [object, int, float]


def test_load_results__mistakes(run):
    assert one_line(load, run, per='seed') == "`per`='seed': use 'evaluation' or 'episode'"
    assert one_line(load, run, frame='arrow') == "`frame`='arrow': use 'pandas', 'polars' or None"


# The settings that differ.


def test_load_results__settings_are_columns_where_lanes_of_an_agent_differ(tmp_path):
    alphas = [('alpha=1', 0, {'alpha': 1.0}), ('own', 0, {})]
    write_config(tmp_path / 'a', alphas)
    write_config(tmp_path / 'b', [('dtql', 0, {})], hidden=512)
    write_config(tmp_path / 'c', [('iql', 0, {})], agent='iql', lr_decay=False, beta=3.0)
    for name, variants in {'a': ('alpha=1', 'own'), 'b': ('dtql',), 'c': ('iql',)}.items():
        write(tmp_path / name, 'eval.jsonl', [evaluation(5, v, 0, [1]) for v in variants])
        write(tmp_path / name, 'metrics.jsonl', [])
    table = load(tmp_path)
    # Neither what only agents differ in, nor what is the same for all.
    assert [name for name in table if name[:4] == 'set/'] == ['set/alpha', 'set/hidden']
    assert table['variant'].tolist() == ['alpha=1', 'own', 'dtql', 'iql']
    assert table['set/alpha'].tolist() == [1.0, 5.0, 5.0, 5.0]  # a lane shows the run's
    assert table['set/hidden'].tolist() == [256, 256, 512, 256]
    assert list(table).index('set/alpha') == len(IDENTITY)
    assert not [name for name in load(tmp_path / 'b') if name[:4] == 'set/']


def test_load_results__a_setting_that_a_run_lacks_is_nan_or_none(tmp_path):
    lanes = [('x', 0, {})]
    write_config(tmp_path / 'a', lanes, beta=1.0, kind='one', deep=True, ema=None)
    write_config(tmp_path / 'b', lanes, beta=2.0, kind='two', deep=False, ema=0.5)
    write_config(tmp_path / 'c', lanes, agent='other')
    for name in 'abc':
        write(tmp_path / name, 'eval.jsonl', [evaluation(5, 'x', 0, [1])])
        write(tmp_path / name, 'metrics.jsonl', [])
    table = load(tmp_path)
    np.testing.assert_array_equal(table['set/beta'], [1, 2, math.nan])
    np.testing.assert_array_equal(table['set/ema'], [math.nan, 0.5, math.nan])
    assert table['set/kind'].tolist() == ['one', 'two', None]
    assert table['set/deep'].tolist() == [True, False, None]


# Records.


def test_read_runs__lanes_that_diverged_and_when(tmp_path):
    write_config(tmp_path / 'a', [('dtql', seed, {}) for seed in range(3)])
    diverged = metric(200, 'dtql', 1, 20.0, diverged_at=170)
    metrics = [metric(100, 'dtql', seed, 10.0 + seed) for seed in range(2)]
    gone = metric(100, 'dtql', 2, 12.0, diverged_at=0)
    last = metric(200, 'dtql', 0, 20.5)
    write(tmp_path / 'a', 'metrics.jsonl', [*metrics, gone, diverged, last])
    evals = [evaluation(step, 'dtql', seed, [1]) for step, seed in [(50, 0), (100, 0), (150, 1)]]
    write(tmp_path / 'a', 'eval.jsonl', evals)
    (record,) = read_runs(tmp_path)
    assert (record.path, record.job) == (tmp_path / 'a', 'a')
    assert [lane.seed for lane in record.lanes] == [0, 1, 2]  # also the one without evaluations
    assert record.diverged == {1: 170, 2: 0}
    assert (record.metrics, record.evals) == (last, evals)
    assert record.config['identity']['agent'] == 'dtql'
    assert record.settings(0)['alpha'] == 5.0
    table = load(tmp_path)
    np.testing.assert_array_equal(table['diverged_at'], [math.nan, math.nan, 170])
    # Nothing is known before the first row; at 150 the last rows are those at 100.
    np.testing.assert_array_equal(table['elapsed_s'], [math.nan, 12, 12])


def test_read_runs__a_run_in_progress_is_read_to_its_last_whole_row(run):
    whole = load(run)
    for name in ('eval', 'metrics'):
        with (run / f'{name}.jsonl').open('a') as file:
            file.write('{"step":300,"vari')
    table = load(run)
    assert table['step'].tolist() == whole['step'].tolist()
    (record,) = read_runs(run)
    assert record.metrics['step'] == 200


def test_read_runs__a_run_that_has_just_begun_has_no_logs(tmp_path):
    write_config(tmp_path / 'new', [('dtql', 0, {})])
    (record,) = read_runs(tmp_path / 'new')
    assert (record.evals, record.metrics, record.diverged) == ([], None, {})


# Where runs are found.


def test_find_runs__a_run_a_folder_of_runs_a_study_or_several(run, tmp_path):
    for name in ('studies/s/jobs/two', 'studies/s/jobs/one', 'b'):
        shutil.copytree(run, tmp_path / name)
    shutil.copytree(run, tmp_path / '.c.123')  # a run that is being made
    (tmp_path / 'b' / 'jobs').mkdir()
    (tmp_path / 'file').touch()
    study = tmp_path / 'studies/s'
    jobs = [study / 'jobs/one', study / 'jobs/two']
    assert find_runs(run) == find_runs(str(run)) == [run]
    assert find_runs(tmp_path) == [run, tmp_path / 'b']
    assert find_runs(study) == find_runs(study / 'jobs') == jobs
    assert find_runs([study, run]) == [*jobs, run]
    assert find_runs(path for path in (tmp_path / 'b', run)) == [tmp_path / 'b', run]


def test_find_runs__a_run_that_is_named_twice_counts_once(run, tmp_path, monkeypatch):
    (tmp_path / 'link').symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert find_runs(['a', run, tmp_path, 'link']) == [run.relative_to(tmp_path)]
    assert load(['a', run])['run'].tolist() == ['a'] * 4
    monkeypatch.chdir(run)
    assert load('.')['job'].tolist() == ['a'] * 4


def test_find_runs__mistakes(tmp_path):
    (tmp_path / 'empty').mkdir()
    assert one_line(find_runs, tmp_path / 'empty') == (
        f'{tmp_path}/empty has no run: name a run folder, a folder of run folders, or the folder '
        'of a study'
    )
    assert one_line(find_runs, []) == '`path` is empty: name at least one folder with runs'
    assert 'missing cannot be read: No such file' in one_line(find_runs, tmp_path / 'missing')
    assert one_line(find_runs, 5) == '`path`=5: not a path'
    assert one_line(find_runs, [None]) == '`path`=None: not a path'


# Damage.


def edit(old, new, times=1):
    return lambda text: text.replace(old, new, times)


@pytest.mark.parametrize(('name', 'change', 'message'), [
    ('config.json', edit('5.0', '6.0'), 'config.json was edited or is damaged: restore the file'),
    ('config.json', edit('{', ''), 'config.json is damaged: JSONDecodeError: '),
    ('config.json', edit('"format": 3', '"format": 2'), 'config.json has format 2, and this ver'),
    ('eval.jsonl', edit('{', ''), 'eval.jsonl, line 1 is not a JSON object'),
    ('eval.jsonl', edit('"seed":1', '"seed":7'), 'eval.jsonl, line 2 is no row of this run'),
    ('metrics.jsonl', edit('20.0', '"x"', 2), 'metrics.jsonl, line 8 is no row of this run'),
    ('eval.jsonl', None, 'eval.jsonl was lost, and the run has begun: restore the file'),
    ('metrics.jsonl', None, 'metrics.jsonl was lost, and the run has begun: restore the file'),
])  # fmt: skip
def test_read_runs__damage_is_one_line_that_names_the_file(run, name, change, message):
    path = run / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    assert f'{run}/{message}' in one_line(read_runs, run)


def test_read_runs__logs_that_were_swapped_are_noticed(run):
    texts = [(run / name).read_text() for name in ('metrics.jsonl', 'eval.jsonl')]
    (run / 'eval.jsonl').write_text(texts[0])
    (run / 'metrics.jsonl').write_text(texts[1])
    assert 'eval.jsonl, line 1 is no row of this run' in one_line(read_runs, run)


def test_read_runs__a_file_that_one_may_not_read_is_one_line(run):
    (run / 'eval.jsonl').chmod(0)
    with obeying_permissions():
        text = one_line(read_runs, run)
        assert text.startswith(f'Permission denied ({run}/eval.jsonl): change its permissions')


# With real runs.


def test_load_results__loads_no_jax(run):
    code = (
        'import sys, dtql_jax\n'
        f'assert len(dtql_jax.load_results({str(run)!r})["score"]) == 4\n'
        'assert not {"jax", "flax", "orbax", "matplotlib"} & set(sys.modules)'
    )
    result = process('-c', code)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_load_results__of_a_run_that_was_trained(trained):
    run_dir, _ = trained
    table, episodes = load(run_dir), load(run_dir, per='episode')
    evals = rows(run_dir)
    assert table['score'].tolist() == [row['eval/score'] for row in evals]
    assert (table['elapsed_s'] > 0).all()
    assert set(table['dataset']) == {'test/pendulum-v0'}
    assert {name for name in table if name[:4] == 'set/'} == {'set/eta', 'set/inverse_temperature'}
    assert [tuple(x) for x in zip(table['variant'], table['seed'], strict=True)][-3:] == [
        (row['variant'], row['seed']) for row in evals[-3:]
    ]
    means = episodes['return'].reshape(len(evals), 2).mean(1)
    np.testing.assert_array_equal(means, table['return'])
