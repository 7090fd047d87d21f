"""`ablations.py`, `beyond.py` and `stability.py` on results that nobody trained."""

import dataclasses
import json

import numpy as np
import pytest

import dtql_jax
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.studies.plan import make_jobs, typed
from dtql_jax.studies.study import read_study
from dtql_jax.types import UserError
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
                told = {'critic/q': -found, 'pi/q': -2 * found, 'pi/trust_loss': 0.25, **norms}
                metrics.append(metric(step, label, seed, 1.0, **told))
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


def test_cells__without_a_base_say_so(tmp_path, monkeypatch):
    script = names_of('experiments/studies/ablations.py', monkeypatch)
    lanes = {'alpha=0.5': ({'alpha': 0.5}, BASE), 'alpha=3': ({'alpha': 3.0}, BETTER)}
    write_run(tmp_path / 'a', lanes, schedule='vp')
    write_run(tmp_path / 'b', lanes, schedule='ve')
    with pytest.raises(UserError, match='no run of the base: run its study first'):
        list(script['cells'](dtql_jax.load_results(tmp_path)))


def test_beyond__tells_the_settings_apart_from_a_base_that_does_not_have_them(
    tmp_path, monkeypatch, capsys
):
    script = names_of('experiments/studies/beyond.py', monkeypatch)
    lanes = {'alpha=0.5': ({'alpha': 0.5}, BASE), 'alpha=3': ({'alpha': 3.0}, BASE)}
    write_run(tmp_path / 'ablation_alpha' / 'jobs' / 'a', lanes)  # of an earlier version
    norm = {'alpha=0.01': ({'alpha': 0.01}, BETTER), 'alpha=0.5': ({'alpha': 0.5}, BASE)}
    write_run(tmp_path / 'beyond_normalise_q' / 'jobs' / 'b', norm, normalise_q=True)
    norm = {'policy_layer_norm': True, 'alpha': 0.5, 'normalise_q': False}
    write_run(tmp_path / 'beyond_norm' / 'jobs' / 'c', {'dtql': ({}, BASE)}, **norm)
    out, asked = tmp_path / 'beyond.json', script['FLAGS']
    asked(['beyond', f'--studies={tmp_path}', f'--out={out}'])
    script['main'](asked)
    rows = {row['cell']: row for row in json.loads(out.read_text())['cells']}
    assert set(rows) == {
        'base', 'alpha=3', 'normalise_q=True alpha=0.01', 'normalise_q=True alpha=0.5',
        'policy_layer_norm=True',
    }  # fmt: skip
    assert rows['normalise_q=True alpha=0.01']['verdict'] == 'higher'
    assert rows['policy_layer_norm=True']['pi/q'] == -104  # twice 52, the mean of the last scores
    assert '| policy_layer_norm=True | 39.0 ± 0.5 |' in (table := capsys.readouterr().out)
    assert '| inconclusive | -104 | 0.25 |' in table
    with pytest.raises(UserError, match=r'^`studies`: .* is not in nowhere'):
        script['read'](['nowhere'])


@pytest.mark.parametrize(
    ('values', 'name'),
    [
        ({'gamma': 1.0, 'normalize_obs': False}, 'base'),
        ({'gamma': 1.0, 'normalize_obs': True}, 'normalize_obs=True'),
        ({'gamma': 1.0, 'v_layer_norm': None}, 'base'),
        ({'gamma': 0.02, 'normalise_q': True}, 'gamma=0.02 normalise_q=True alpha=0.5'),
    ],
)
def test_name_of__antmaze_has_a_base_of_its_own(values, name, monkeypatch):
    script = names_of('experiments/studies/ablations.py', monkeypatch)
    task = 'antmaze-large-navigate-singletask-task4-v0'
    assert script['name_of'](task, 'dtql', {'alpha': 0.5, **values}) == name


def test_ways__choose_of_one_in_one_way(monkeypatch):
    script = names_of('experiments/studies/ablations.py', monkeypatch)
    assert list(script['ways'](['1', '8'])) == [(8, 'drawn'), (8, 'best'), (1, 'drawn')]


def jobs_of(name):
    """The requests of a study's jobs."""
    study = read_study(ROOT / f'experiments/studies/{name}.toml')
    return [job.request for job in make_jobs(typed(study))[0]]


ABLATIONS = ('schedule', 'likelihood', 'clip', 'pretraining', 'policy')
BEYOND = (
    'normalise_q', 'v_layer_norm', 'policy_layer_norm', 'normalize_obs',
)  # fmt: skip


@pytest.mark.parametrize(
    'name',
    [f'ablation_{name}' for name in ABLATIONS]
    + [f'beyond_{name}' for name in BEYOND]
    + ['chunking'],
)
def test_studies__share_the_base(name):
    """What is not ablated is equal to the settings of the base."""
    ablated = {'alpha', 'gamma', 'schedule', 'clip_denoised', 'policy', 'pretrain_steps', 'steps'}
    ablated |= {'normalise_q', 'v_layer_norm', 'policy_layer_norm'}
    ablated |= {'horizon_length'}

    def shared(request):
        plan = make_plan(make_request(request))
        config = dataclasses.asdict(plan.config)
        return {n: v for n, v in config.items() if n not in ablated}, plan.eval_episodes

    base = {request['env']: shared(request) for request in jobs_of('ablation_alpha')}
    for request in jobs_of(name):
        assert shared(request) == base[request['env']]


def test_studies__of_antmaze_have_the_weights_of_its_base():
    (request,) = jobs_of('beyond_antmaze')
    config = make_plan(make_request(request)).config
    assert (config.alpha, config.gamma) == (0.5, 1.0)


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
