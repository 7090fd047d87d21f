"""Recorded rows, replayed: small errors in the simulator that made them, large in a lookalike."""

import json

import numpy as np
import pytest

from tests.helpers.scripts import ROOT, run_script
from tools.validate_simulators.replay import cases, clipped, summary

DATA = ROOT.parent / 'shared' / 'data'


def replayed(folder, *names, rows=100):
    """Results of the tool by (case, simulator)."""
    out = folder / 'replay.json'
    flags = [f'--rows={rows}', f'--only={",".join(names)}', f'--out={out}']
    flags += [f'--minari_root={DATA / "minari"}', f'--ogbench_dir={DATA / "ogbench"}']
    run_script('-m tools.validate_simulators.replay', *flags)
    results = json.loads(out.read_text())['results']
    assert {result['case'] for result in results} == set(names)
    for result in results:
        if result['source'] == 'absent':
            pytest.skip(f'the data of {result["case"]} are not at hand')
        sizes = result['obs_action_dims']
        assert sizes['simulator'] == sizes['data']
        assert 0 < result['rows'] <= rows
    return {(result['case'], result['simulator']): result for result in results}


def test_cases__are_those_of_the_committed_results():
    committed = json.loads((ROOT / 'benchmarks' / 'results' / 'replay.json').read_text())
    here = {(c.name, s.name, s.fits) for c in cases(None, None) for s in c.simulators}
    there = {(r['case'], r['simulator'], r['fits']) for r in committed['results']}
    assert here == there


def test_clipped__is_a_velocity_at_the_border():
    assert clipped(np.array([0.0, -10.0]))
    assert not clipped(np.array([0.0, 9.9]))


def test_summary__is_of_each_rows_largest_error():
    found = summary(np.array([[0.0, -2.0], [1.0, 0.5], [3.0, 0.0]]))
    assert (found['median'], found['max']) == (2.0, 3.0)


@pytest.mark.slow
def test_replay__states_rebuilt_from_rows_lead_to_the_next_row(tmp_path):
    results = replayed(tmp_path, 'walker2d', 'pointmaze-umaze', 'pen')
    assert results['pointmaze-umaze', 'PointMaze_UMaze-v3']['absolute']['max'] < 1e-9
    assert results['pen', 'AdroitHandPen-v1']['absolute']['max'] < 1e-5
    right = results['walker2d', 'Walker2d-v5']['absolute']['max']
    assert right < 1e-4
    assert results['walker2d', 'Walker2d-v4']['absolute']['max'] > 1000 * right


@pytest.mark.slow
def test_replay__recorded_sets_come_from_the_simulators_that_their_tasks_name(tmp_path):
    results = replayed(tmp_path, 'hopper-medium', 'halfcheetah-medium', 'door-human')
    assert results['hopper-medium', 'Hopper-v5']['absolute']['max'] < 1e-5
    assert results['halfcheetah-medium', 'HalfCheetah-v5']['absolute']['max'] < 1e-3
    assert results['door-human', 'AdroitHandDoor-v1']['absolute']['max'] < 1e-4


@pytest.mark.slow
def test_replay__d4rls_ant_is_ogbenchs_and_gymnasiums_is_another(tmp_path):
    pytest.importorskip('ogbench', reason='its environments are one side of the comparison')
    results = replayed(tmp_path, 'ogbench-antmaze-large')
    errors = {name: result['absolute'] for (_, name), result in results.items()}
    own = errors['OGBench antmaze-large']
    assert errors['D4RLAntMaze-v0'] == pytest.approx(own, rel=1e-6)
    assert own['median'] < 1e-3
    for wrong in ('Ant-v5 without walls', 'AntMaze_Large-v4'):
        assert errors[wrong]['median'] > 1000 * own['median']
        assert errors[wrong]['p99'] > 10 * own['p99']
