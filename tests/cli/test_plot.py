import subprocess
import sys
from pathlib import Path

from tests.helpers.run_files import assert_is_a_chart, write_run

SCRIPT = Path(__file__).parents[2] / 'experiments' / 'plot.py'


def script(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_main__draws_the_runs_and_prints_the_chart(tmp_path):
    runs = [write_run(tmp_path / 'one', ['dtql']), write_run(tmp_path / 'two', ['dtql'])]
    out = tmp_path / 'out.png'
    result = script(f'--runs={runs[0]},{runs[1]}', f'--out={out}')
    assert (result.returncode, result.stdout) == (0, f'{out}\n')
    assert_is_a_chart(out)


def test_main__names_a_mistake_in_one_line():
    result = script('--runs=nowhere')
    assert result.returncode == 2
    assert result.stderr.startswith('error: nowhere has no evaluations')
    assert result.stderr.count('\n') == 1
