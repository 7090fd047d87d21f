"""`ablations.py` and `stability.py` on results that nobody trained."""

import dataclasses
import json

import numpy as np
import pytest

import dtql_jax
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.studies.plan import make_jobs, typed
from dtql_jax.studies.study import read_study
from tests.helpers.result_files import evaluation, metric, write_config
from tests.helpers.run_files import write
from tests.helpers.scripts import ROOT, names_of

BASE, BETTER = (50.0, 51, 52, 53, 54), (90.0, 91, 92, 93, 94)


def write_run(run_dir, lanes, agent='dtql', **settings):
    """A run of a task in a maze; `lanes` are label -> (settings of its own, score of each seed)."""
    write_config(
        run_dir,
        [(label, seed, own) for label, (own, seeds) in lanes.items() for seed in range(len(seeds))],
        agent,
        task='pointmaze-medium',
        **settings,
    )
    evals, metrics = [], []
    for step in (100, 200):
        for label, (_, seeds) in lanes.items():
            for seed, score in enumerate(seeds):
                found = score * step / 200
                evals.append(evaluation(step, label, seed, [10 * found]))
                norms = {f'{name}/grad_norm': found for name in ('pi', 'actor', 'critic')}
                metrics.append(metric(step, label, seed, 1.0, **{'critic/q': -found, **norms}))
    write(run_dir, 'metrics.jsonl', metrics)
    write(run_dir, 'eval.jsonl', evals)


@pytest.fixture
def table(tmp_path):
    lanes = {'alpha=0.5': ({'alpha': 0.5}, BASE), 'alpha=3': ({'alpha': 3.0}, BETTER)}
    usual = {'gamma': 0.0, 'schedule': 'edm', 'policy': 'gaussian', 'pretrain_steps': 10}
    write_run(tmp_path / 'a', lanes, **usual)
    none = {**usual, 'pretrain_steps': 0, 'alpha': 0.5}
    write_run(tmp_path / 'b', {'dtql': ({}, BASE)}, **none)
    write_run(tmp_path / 'c', {'alpha=0.5': lanes['alpha=0.5']}, **{**usual, 'schedule': 'vp'})
    write_run(tmp_path / 'd', {'alpha=3': lanes['alpha=3']}, agent='dql_kl', alpha=1.0)
    return dtql_jax.load_results(tmp_path)


def test_cells__are_named_by_what_differs_from_the_base(table, monkeypatch):
    script = names_of('experiments/studies/ablations.py', monkeypatch)
    rows = {row['cell']: row for row in script['cells'](table)}
    assert set(rows) == {
        'base', 'alpha=3', 'pretrain_steps=0', 'schedule=vp alpha=0.5', 'dql_kl alpha=3',
    }  # fmt: skip
    assert rows['base']['mean'] == 39  # of 26 and 52, the means of its two evaluations
    assert rows['base']['standard_error'] == pytest.approx(0.75 * np.sqrt(2.5 / 5))
    assert rows['base']['steps'] == [100, 200]
    assert rows['base']['curve'][0] == [25, 25.5, 26, 26.5, 27]
    assert (rows['alpha=3']['difference'], rows['alpha=3']['verdict']) == (30, 'higher')
    assert rows['pretrain_steps=0']['verdict'] == 'inconclusive'
    assert '| alpha=3 | 69.0 ± 0.5 |' in script['table_of'](
        list(rows.values()), lambda r: r['cell']
    )
    assert script['chart'](list(rows.values())).axes[0].lines


def test_ways__choose_of_one_in_one_way(monkeypatch):
    script = names_of('experiments/studies/ablations.py', monkeypatch)
    assert list(script['ways'](['1', '8'])) == [(8, 'drawn'), (8, 'best'), (1, 'drawn')]


def jobs_of(name):
    """The requests of a study's jobs."""
    study = read_study(ROOT / f'experiments/studies/{name}.toml')
    return [job.request for job in make_jobs(typed(study))[0]]


@pytest.mark.parametrize('name', ['schedule', 'likelihood', 'clip', 'pretraining', 'policy'])
def test_studies__share_the_base(name):
    """What is not ablated is equal to the settings of the base."""
    ablated = {'alpha', 'gamma', 'schedule', 'clip_denoised', 'policy', 'pretrain_steps', 'steps'}

    def shared(request):
        plan = make_plan(make_request(request))
        config = dataclasses.asdict(plan.config)
        return {n: v for n, v in config.items() if n not in ablated}, plan.eval_episodes

    base = {request['env']: shared(request) for request in jobs_of('ablation_alpha')}
    for request in jobs_of(f'ablation_{name}'):
        assert shared(request) == base[request['env']]


def test_studies__of_stability_log_the_norms_of_gradients():
    assert all(request['gradient_norms'] for request in jobs_of('stability'))


def test_of_scores__by_hand(monkeypatch):
    script = names_of('experiments/studies/stability.py', monkeypatch)
    found = script['of_scores'](np.array([0.0, 80, 20, 60]))
    assert found['drop'] == 60  # from 80 to 20
    assert found['end'] == 20
    assert found['steps'] == pytest.approx((80 + 60 + 40) / 3)


def test_shared_steps__are_those_of_every_variant(monkeypatch):
    script = names_of('experiments/studies/stability.py', monkeypatch)
    rows = [('maze', 'a', 'x', 500), ('maze', 'a', 'x', 1000), ('maze', 'b', 'y', 1000)]
    columns = zip(*rows, strict=True)
    names = ('task', 'run', 'variant', 'step')
    table = {name: np.array(values) for name, values in zip(names, columns, strict=True)}
    assert script['shared_steps'](table) == {'maze': {1000}}


def test_stability__compares_the_agents(tmp_path, monkeypatch):
    script = names_of('experiments/studies/stability.py', monkeypatch)
    for agent in ('dtql', 'diffusion_ql'):
        write_run(tmp_path / agent, {agent: ({}, BASE)}, agent=agent)
    out = tmp_path / 'stability.json'
    asked = script['FLAGS']
    asked(['stability', f'--study={tmp_path}', f'--out={out}', f'--chart={tmp_path}/chart.png'])
    script['main'](asked)
    report = json.loads(out.read_text())
    measures = report['rows'][1]['measures']
    assert measures['q_low'] == [-50, -51, -52, -53, -54]
    assert measures['policy_norm'] == [37.5, 38.25, 39, 39.75, 40.5]
    assert {row['dtql_is'] for row in report['compared']} == {'inconclusive'}
    assert (tmp_path / 'chart.png').stat().st_size
