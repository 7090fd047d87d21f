"""Recorded rows, replayed: small errors in the simulator that made them, large in a lookalike."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / 'shared' / 'data'


def replay(folder, *cases, rows=100):
    """Results of benchmarks/replay.py by (case, simulator)."""
    out = folder / 'replay.json'
    flags = [f'--rows={rows}', f'--only={",".join(cases)}', f'--out={out}']
    flags += [f'--minari_root={DATA / "minari"}', f'--ogbench_dir={DATA / "ogbench"}']
    command = [sys.executable, str(ROOT / 'benchmarks' / 'replay.py'), *flags]
    subprocess.run(command, check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    results = json.loads(out.read_text())['results']
    assert {result['case'] for result in results} == set(cases)
    for result in results:
        if result['source'] == 'absent':
            pytest.skip(f'the data of {result["case"]} are not at hand')
        sizes = result['obs_action_dims']
        assert sizes['simulator'] == sizes['data']
        assert 0 < result['rows'] <= rows
    return {(result['case'], result['simulator']): result for result in results}


@pytest.mark.slow
def test_states_rebuilt_from_rows_lead_to_the_next_row(tmp_path):
    results = replay(tmp_path, 'walker2d', 'pointmaze-umaze', 'pen')
    assert results['pointmaze-umaze', 'PointMaze_UMaze-v3']['absolute']['max'] < 1e-9
    assert results['pen', 'AdroitHandPen-v1']['absolute']['max'] < 1e-5
    right = results['walker2d', 'Walker2d-v5']['absolute']['max']
    assert right < 1e-4
    assert results['walker2d', 'Walker2d-v4']['absolute']['max'] > 1000 * right


@pytest.mark.slow
def test_recorded_sets_come_from_the_simulators_that_their_tasks_name(tmp_path):
    results = replay(tmp_path, 'hopper-medium', 'halfcheetah-medium', 'door-human')
    assert results['hopper-medium', 'Hopper-v5']['absolute']['max'] < 1e-5
    assert results['halfcheetah-medium', 'HalfCheetah-v5']['absolute']['max'] < 1e-3
    assert results['door-human', 'AdroitHandDoor-v1']['absolute']['max'] < 1e-4


@pytest.mark.slow
def test_d4rls_ant_is_ogbenchs_and_gymnasiums_is_another(tmp_path):
    pytest.importorskip('ogbench', reason='its environments are one side of the comparison')
    results = replay(tmp_path, 'ogbench-antmaze-large')
    errors = {name: result['absolute'] for (_, name), result in results.items()}
    own = errors['OGBench antmaze-large']
    assert errors['D4RLAntMaze-v0'] == pytest.approx(own, rel=1e-6)
    assert own['median'] < 1e-3
    for wrong in ('Ant-v5 without walls', 'AntMaze_Large-v4'):
        assert errors[wrong]['median'] > 1000 * own['median']
        assert errors[wrong]['p99'] > 10 * own['p99']
