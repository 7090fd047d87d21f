"""The command of the campaign, on a few real runs."""

import json

import pytest

from tests.helpers.scripts import run_script

pytestmark = pytest.mark.slow


def test_main__kills_and_goes_on(tmp_path):
    """Two strikes; then none is left to make, and a table is printed."""
    flags = ('kills', '--count=2', f'--out={tmp_path}')
    assert "'same'" in run_script('-m tools.campaign', *flags)
    before = json.loads((tmp_path / 'kills.json').read_text())
    run_script('-m tools.campaign', *flags)
    assert json.loads((tmp_path / 'kills.json').read_text()) == before
    printed = run_script('-m tools.campaign', 'table', str(tmp_path / 'kills.json'))
    assert '| 0 |' in printed.splitlines()[2]


def test_main__accidents(tmp_path):
    flags = ('accidents', '--only=null_in_out,dangling_link', f'--out={tmp_path}')
    run_script('-m tools.campaign', *flags)
    records = json.loads((tmp_path / 'accidents.json').read_text())['records']
    assert {record['code'] for record in records.values()} == {2}
