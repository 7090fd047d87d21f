"""`report_time.py` makes runs up, reports them, and says what that cost."""

import json

import pytest

from tests.helpers.scripts import run_script


@pytest.mark.slow
def test_report_time__measures_a_small_study(tmp_path):
    out, study = tmp_path / 'out.json', tmp_path / 'kept'
    small = ('--runs=6', '--tasks=2', '--agents=3', '--evaluations=3', '--episodes=4')
    run_script('benchmarks/report_time.py', f'--out={out}', f'--study={study}', *small)
    (row,) = json.loads(out.read_text())['results']
    assert (row['runs'], row['lanes']) == (6, 30)
    assert row['report_s'] > 0
    assert row['peak_mb'] > 50
    assert row['page_mb'] < 1
    assert (study / 'study' / 'report' / 'index.html').stat().st_size == row['page_mb'] * 1e6
