import math
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from dtql_jax.report import plots
from dtql_jax.report.loggers import JsonlLog
from dtql_jax.types import UserError

SCRIPT = Path(__file__).parent.parent / 'experiments' / 'plot.py'


def write(run_dir, name, rows):
    run_dir.mkdir(exist_ok=True)
    with JsonlLog(run_dir / name) as log:
        for row in rows:
            log.write(row)


def write_run(run_dir, variants=('dtql', 'clone'), seeds=(0, 1)):
    lanes = [(variant, seed) for variant in variants for seed in seeds]
    write(
        run_dir,
        'metrics.jsonl',
        [
            {
                'step': step,
                'phase': 'pretrain' if step <= 200 else 'train',
                'seed': seed,
                'variant': variant,
                'critic/loss': 1e4 / step,
                'mu/loss': 0.4,
                'time/updates_per_s': 60.0,
                **({} if step <= 200 else {'pi/trust_loss': 0.3, 'pi/q': -2.0 + seed}),
            }
            for step in range(100, 1001, 100)
            for variant, seed in lanes
        ],
    )
    write(
        run_dir,
        'eval.jsonl',
        [
            {'step': step, 'seed': seed, 'variant': variant, 'eval/score': step / 20 + 10 * seed}
            for step in range(400, 1001, 200)
            for variant, seed in lanes
        ],
    )
    return run_dir


def assert_is_a_chart(path):
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    assert pixels[..., :3].std() > 0.02


def test_a_run(tmp_path):
    path = plots.plot_curves(write_run(tmp_path / 'run'), behaviour=58.0)
    assert path == tmp_path / 'run' / 'curves.png'
    assert_is_a_chart(path)


@pytest.mark.parametrize('present', ['metrics.jsonl', 'eval.jsonl'])
def test_a_run_that_has_just_begun(tmp_path, present):
    run_dir = write_run(tmp_path / 'run')
    for path in run_dir.iterdir():
        if path.name != present:
            path.write_text('')
    assert_is_a_chart(plots.plot_curves(run_dir))


def test_one_point_of_one_seed_and_a_diverged_one(tmp_path):
    rows = [{'step': 10, 'seed': 0, 'eval/score': 1.0}, {'step': 10, 'seed': 1, 'eval/score': None}]
    write(tmp_path, 'eval.jsonl', [*rows, {'step': 20, 'seed': 1, 'eval/score': math.nan}])
    assert_is_a_chart(plots.plot_curves(tmp_path))


def test_not_a_run(tmp_path):
    with pytest.raises(UserError, match=r'no eval\.jsonl and no metrics\.jsonl'):
        plots.plot_curves(tmp_path)
    with pytest.raises(UserError, match='no evaluations'):
        plots.plot_runs([tmp_path], tmp_path / 'out.png')


def test_the_mean_leaves_out_what_is_not_finite():
    seeds = {0: [(1, 1.0), (2, 2.0)], 1: [(1, 3.0), (2, math.nan)], 2: [(3, math.inf)]}
    steps, mean, low, high = plots._over_seeds(seeds)
    assert steps.tolist() == [1, 2]
    assert mean.tolist() == [2.0, 2.0]
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [3.0, 2.0])


def test_panels_are_the_main_metrics_then_the_others():
    rows = [{'step': 1, 'seed': 0, 'time/s': 1.0, 'a/b': 1.0, 'pi/q': 1.0, 'critic/loss': 1.0}]
    assert plots._panel_keys(rows) == ['critic/loss', 'pi/q', 'a/b']


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    assert plots._labels(['a/run', 'b/other']) == ['run', 'other']
    assert plots._labels(['a/run', 'b/run']) == ['a/run', 'b/run']


def test_the_script(tmp_path):
    runs = [write_run(tmp_path / 'one', ['dtql']), write_run(tmp_path / 'two', ['dtql'])]
    out = tmp_path / 'out.png'
    result = script(f'--runs={runs[0]},{runs[1]}', f'--out={out}')
    assert (result.returncode, result.stdout) == (0, f'{out}\n')
    assert_is_a_chart(out)


def test_the_script_names_a_mistake_in_one_line():
    result = script('--runs=nowhere')
    assert result.returncode == 2
    assert result.stderr.startswith('error: nowhere has no evaluations')
    assert result.stderr.count('\n') == 1


def script(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
