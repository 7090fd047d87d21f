"""The scripts that measure one thing each run at tiny sizes."""

import json
import types

import pytest

from dtql_jax.types import UserError
from tests.helpers.compiling import quick_environment
from tests.helpers.report_runs import write_run
from tests.helpers.scripts import ROOT, names_of, run_script

RESULTS = ROOT / 'benchmarks' / 'results'
BLOCKS = ('--blocks=1', '--block_seconds=0.01')


def measured(tmp_path, script, *given):
    out = tmp_path / 'report.json'
    run_script(f'benchmarks/{script}.py', f'--out={out}', *given, **quick_environment())
    return json.loads(out.read_text())


def same_keys(report, name):
    """Whether a report has the keys of the committed one, and so have their rows."""
    before = json.loads((RESULTS / f'{name}_cpu.json').read_text())
    rows = before['results'][0].keys() == report['results'][0].keys()
    return before.keys() <= report.keys() and rows


@pytest.mark.slow
def test_saves__measures_every_part(tmp_path):
    report = measured(tmp_path, 'saves', '--seeds=1', '--repeats=1', '--log_rows=10')
    before = json.loads((RESULTS / 'saves.json').read_text())
    assert before.keys() <= report.keys()
    assert report['results'][0].keys() == before['results'][0].keys()
    assert report['results'][0]['save_s'] > report['results'][0]['lock_s'] > 0


def test_scores__tells_each_seed_and_the_machine(tmp_path, monkeypatch):
    asked = {'env': 'hopper-medium-v2', 'num_seeds': 2, 'online_steps': 1000}
    write_run(tmp_path / 'a', [[[10], [20]], [[30], [40]]], end=1000, **asked)
    out, chart = tmp_path / 'scores.json', tmp_path / 'scores.png'
    script = names_of('experiments/studies/scores.py', monkeypatch)
    script['main'](types.SimpleNamespace(studies=[str(tmp_path)], out=str(out), chart=str(chart)))
    assert chart.read_bytes().startswith(b'\x89PNG')
    report = json.loads(out.read_text())
    assert report['results'][0]['switch'] == 1000
    assert report['results'][0]['scores'] == {'1000': [10, 30], '2000': [20, 40]}
    assert all(report[name] for name in ('processor', 'date', 'jax'))


@pytest.mark.slow
def test_limit__counts_and_measures(tmp_path):
    report = measured(tmp_path, 'limit', '--sizes=3/2/8', *BLOCKS)
    assert same_keys(report, 'limit')
    assert report['results'][0]['share_of_product_rate'] > 0


@pytest.mark.slow
def test_lanes__compares_one_program_with_single_runs(tmp_path):
    given = ('--sizes=maze', '--seeds=1', '--alphas=0.5,1', '--updates=10')
    (row,) = measured(tmp_path, 'lanes', *given, *BLOCKS)['results']
    for name in ('in_turn', 'at_once'):
        ratio = row['seed_updates_per_s']['together'] / row['seed_updates_per_s'][name]
        assert row['faster_than'][name] == pytest.approx(ratio)  # of the only block
        assert row['total_faster_than'][name] == row['total_s'][name] / row['total_s']['together']
    first, following = (sum(row['start_s']['in_turn'][i].values()) for i in ('first', 'next'))
    training_s = 2 * 10 / row['seed_updates_per_s']['in_turn']
    assert row['total_s']['in_turn'] == pytest.approx(first + following + training_s)


def test_limit__the_committed_counts_are_those_of_the_networks(monkeypatch):
    import jax

    script = names_of('benchmarks/limit.py', monkeypatch)
    for row in json.loads((RESULTS / 'limit_cpu.json').read_text())['results']:
        dims, _, batch = row['size'].rpartition('/')
        agent = script['Case']('dtql', dims, int(batch)).make()
        state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
        counts = {
            name: script['operations'](term, int(batch))
            for name, term in script['terms'](state, agent.spec).items()
        }
        assert counts == row['operations']
        assert script['traffic'](state, agent.spec, int(batch)) / 1e6 == row['mb_per_update']


def test_times__the_committed_table_is_that_of_the_result_files(monkeypatch):
    script = names_of('benchmarks/times.py', monkeypatch)
    asked = script['FLAGS']
    table = script['table'](str(RESULTS), asked['env'].default, asked['agents'].default)
    assert table in (ROOT / 'docs' / 'results.md').read_text()


def test_startup__a_run_that_cannot_begin_is_one_line(tmp_path, monkeypatch):
    launch = names_of('benchmarks/startup.py', monkeypatch)['launch']
    with pytest.raises(UserError, match=r"unknown task 'no-such'.*: see to that first$"):
        launch(str(ROOT), ['env=no-such'], tmp_path, str(tmp_path / 'cache'))


@pytest.mark.slow
def test_startup__tells_the_seconds_cold_and_warm(tmp_path):
    report = measured(tmp_path, 'startup', '--repeats=1')
    assert same_keys(report, 'startup')
    cold, warm = report['results']
    assert (cold['cache'], warm['cache']) == ('cold', 'warm')
    assert cold['first update'] > warm['first update'] > warm['imports'] > 0


@pytest.mark.slow
def test_loading__loads_cold_and_from_the_cache(tmp_path):
    report = measured(tmp_path, 'loading', '--transitions=2000', '--repeats=1')
    assert same_keys(report, 'loading')
    loads = [(row['data'], row['load']) for row in report['results']]
    assert loads == [(data, load) for data in ('minari', 'd4rl') for load in ('cold', 'second')]
    assert all(row['transitions'] == 2000 for row in report['results'])


@pytest.mark.slow
def test_operations__lists_them_by_time(tmp_path):
    report = measured(tmp_path, 'operations', '--dims=3/2', '--batch_size=8', *BLOCKS)
    assert same_keys(report, 'top_kernels')
    shares = [row['share'] for row in report['results']]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-6


@pytest.mark.slow
def test_reference__compares_the_agents_of_this_package(tmp_path):
    report = measured(tmp_path, 'reference', '--dims=3/2', '--seeds=1', *BLOCKS)
    assert same_keys(report, 'against_diffusion_ql')
    assert [row['name'] for row in report['results']] == [
        'dtql, ours, batch 256',
        'dql, ours, batch 256',
    ]


@pytest.mark.slow
def test_charts__draws_the_committed_results(tmp_path):
    run_script('benchmarks/charts.py', f'--out={tmp_path}')
    drawn = {path.name for path in tmp_path.glob('*.png')}
    assert drawn == {
        f'{name}-cpu.png' for name in ('scaling', 'against-diffusion-ql', 'time-to-result')
    }
