"""Every example runs, ends well, and prints what its docstring promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / 'examples'


def run_example(folder, *arguments):
    """Runs Python on `arguments` in an empty folder; returns what it printed."""
    # The checkout first: an installed copy may be another version.
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    environment = {**os.environ, 'PYTHONPATH': path, 'PYTHONWARNINGS': 'ignore'}
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'Traceback' not in result.stderr
    return result.stdout


def scores(printed, variant):
    """The last scores of a variant, as the evaluations print them."""
    line = re.findall(r'^evaluation at .*score (.*)  \(', printed, re.MULTILINE)[-1]
    (found,) = re.findall(rf'(?:^|; ){re.escape(variant)}((?: -?[\d.]+)+)', line)
    return [float(score) for score in found.split()]


def behaviour(printed):
    """The score of the data."""
    return float(re.search(r'score +(-?[\d.]+) \(behaviour\)', printed)[1])


@pytest.mark.slow
def test_own_agent__trains_stops_resumes_and_loads(tmp_path):
    printed = run_example(tmp_path, EXAMPLES / 'own_agent.py')
    assert printed.count('evaluation at 3,000') == 1  # before the stop, and not again after it
    assert 'stopped, with a checkpoint in' in printed
    assert 'resuming' in printed
    assert 'evaluation at 6,000' in printed
    assert min(scores(printed, 'mine')) > behaviour(printed) - 10
    assert re.search(r'torque when it hangs still: \[-?[\d.]+\]', printed)


def test_own_agent__command_line_lists_its_settings(tmp_path):
    agent = f'--agent={EXAMPLES / "own_agent.py"}:Mine'
    printed = run_example(tmp_path, ROOT / 'experiments' / 'run.py', agent, '--help')
    assert re.search(r'--beta=X +inverse temperature of the weights', printed)
    assert '--alpha=X' not in printed


@pytest.mark.slow
def test_own_data__beats_the_behaviour(tmp_path):
    printed = run_example(tmp_path, EXAMPLES / 'own_data.py')
    assert min(scores(printed, 'iql')) > behaviour(printed)


@pytest.mark.slow
def test_own_env__is_evaluated(tmp_path):
    printed = run_example(tmp_path, EXAMPLES / 'own_env.py')
    assert min(scores(printed, 'iql')) > behaviour(printed) + 20


@pytest.mark.slow
def test_lanes__differ_in_alpha(tmp_path):
    printed = run_example(tmp_path, EXAMPLES / 'lanes.py')
    assert printed.count('compiled train') == 1
    found = [scores(printed, f'alpha {alpha}') for alpha in ('0.1', '1', '10')]
    assert max(found[2]) < min(found[0] + found[1])


def test_every_example_has_a_test():
    names = {path.stem for path in EXAMPLES.glob('*.py')}
    tested = set(re.findall(r'^def test_(\w+?)__', Path(__file__).read_text(), re.MULTILINE))
    assert names == tested
