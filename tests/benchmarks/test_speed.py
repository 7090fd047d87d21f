"""Every part of `speed.py` runs and writes the keys that its result files have."""

import json

import pytest

from tests.helpers.scripts import ROOT, run_script

pytestmark = pytest.mark.slow
TINY = ('--blocks=1', '--block_seconds=0.01', '--dims=3/2', '--batch_sizes=8')
QUICK = {'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true'}


def measured(tmp_path, *given):
    out = tmp_path / 'speed.json'
    run_script('benchmarks/speed.py', f'--out={out}', *TINY, *given, **QUICK)
    return json.loads(out.read_text())


def recorded(name):
    return json.loads((ROOT / 'benchmarks' / 'results' / f'{name}_cpu.json').read_text())


def test_training__measures_what_the_file_lacks(tmp_path):
    first = measured(tmp_path, '--agents=bc')
    second = measured(tmp_path, '--agents=bc,iql')
    assert second['results'][0] == first['results'][0]
    assert [row['agent'] for row in second['results']] == ['bc', 'iql']
    assert first['results'][0].keys() == recorded('training_speed')['results'][0].keys()
    assert recorded('training_speed').keys() <= first.keys()
    assert all(row['updates_per_s']['train'] > 0 for row in second['results'])


def test_acting__times_calls(tmp_path):
    report = measured(tmp_path, '--part=acting', '--agents=srpo', '--observations=1,3')
    assert [row['batch'] for row in report['results']] == [1, 3]
    assert report['results'][0].keys() == recorded('inference_speed')['results'][0].keys()


def test_scaling__counts_seeds_devices_and_bytes(tmp_path):
    # The programs of one and two seeds are compiled once for all three.
    report = measured(tmp_path, '--part=scaling', '--axes=seeds,devices,memory', '--values=1,2')
    before = recorded('scaling')
    assert report['seeds'][0].keys() == before['seeds'][0].keys()
    assert report['devices'] == [{'devices': n, 'collectives': 0} for n in (1, 2)]
    assert report['memory'].keys() == before['memory'].keys()
    assert report['memory']['predicted_mb_per_seed'] > 0


def test_run_and_overlap__tell_the_parts_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    short = ('--agent=bc', '--num_seeds=1', '--steps=4', '--eval_every=2', '--eval_episodes=1')
    report = measured(tmp_path, '--part=run', *short)
    before = recorded('time_to_result')
    assert report.keys() >= before.keys()
    (row,) = report['results']
    assert row.keys() == before['results'][0].keys()
    assert row['parts_s'].keys() <= before['results'][0]['parts_s'].keys()
    assert sum(row['parts_s'].values()) == pytest.approx(row['total_s'])
    report = measured(tmp_path, '--part=overlap', *short)
    before = recorded('overlap')
    assert report.keys() >= before.keys()
    assert [row['overlap'] for row in report['results']] == [False, True]
    assert report['results'][0].keys() == before['results'][0].keys()
    assert report['scores_are_equal']


def test_tasks__times_an_agent_on_the_data_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    given = ('--part=tasks', '--envs=pointmaze-umaze', '--agents=bc', '--num_seeds=1')
    (row,) = measured(tmp_path, *given)['results']
    assert (row['env'], row['agent']) == ('pointmaze-umaze', 'bc')
    assert set(row['updates_per_s']) == {'steps'}
    assert row['ms_per_action'] > 0
