"""The log files of a made-up run, and a look at a chart of them."""

import matplotlib.image

from dtql_jax.report.loggers import JsonlLog


def write(run_dir, name, rows):
    """Writes the rows of one file of a run."""
    run_dir.mkdir(exist_ok=True)
    with JsonlLog(run_dir / name) as log:
        for row in rows:
            log.write(row)


def write_run(run_dir, variants=('dtql', 'clone'), seeds=(0, 1)):
    """Writes the metrics and evaluations of a short run; returns its folder."""
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
    """The picture is large enough and not blank."""
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    assert pixels[..., :3].std() > 0.02
