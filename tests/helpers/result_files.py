"""Run folders with results that nobody trained: what `dtql_jax.studies` reads."""

import json

import numpy as np

from dtql_jax.runs.config_file import CONFIG, FORMAT, seal
from tests.helpers.run_files import write

SETTINGS = {'alpha': 5.0, 'hidden': 256, 'lr_decay': True, 'steps': 200}


def write_config(run_dir, lanes, agent='dtql', task='hopper-medium', **settings):
    """Writes a sealed `config.json`; `lanes` are `(variant, seed, its own settings)`."""
    fields = ('variant', 'seed', 'hparams')
    description = {
        'format': FORMAT,
        'identity': {
            'agent': agent,
            'task': {'name': task},
            'config': {**SETTINGS, **settings},
            'lanes': [dict(zip(fields, lane, strict=True)) for lane in lanes],
        },
        'data': {'datasets': [f'mujoco/{task}-v0'], 'source': 'minari'},
    }
    run_dir.mkdir(parents=True)
    (run_dir / CONFIG).write_text(json.dumps({**description, 'sha256': seal(description)}))


def evaluation(step, variant, seed, returns, **other):
    """A row of `eval.jsonl` of a task whose score is a tenth of the return."""
    returns = np.array(returns, float)
    columns = {'score': returns / 10, 'return': returns, 'length': np.arange(1.0, len(returns) + 1)}
    return {
        'step': step,
        'variant': variant,
        'seed': seed,
        **{f'eval/{name}': float(values.mean()) for name, values in columns.items()},
        'eval/episodes': len(returns),
        **{f'episode/{name}': values.tolist() for name, values in columns.items()},
        'time/eval_s': 0.5,
        **other,
    }


def metric(step, variant, seed, elapsed_s, **other):
    """A row of `metrics.jsonl`."""
    row = {'step': step, 'variant': variant, 'seed': seed, 'phase': 'train', **other}
    return {**row, 'pi/loss': 0.25, 'time/elapsed_s': elapsed_s}


def write_results_of(run_dir, variants=('dtql',), seeds=(0, 1), agent='dtql', **settings):
    """Writes a run folder with evaluations of three episodes at the steps 100 and 200.

    Returns the rows of its `eval.jsonl`. A step takes a tenth of a second.
    """
    lanes = [(variant, seed, {}) for variant in variants for seed in seeds]
    write_config(run_dir, lanes, agent, **settings)
    rows = [(step, variant, seed) for step in (50, 100, 150, 200) for variant, seed, _ in lanes]
    write(run_dir, 'metrics.jsonl', [metric(*row, row[0] / 10) for row in rows])
    evals = [evaluation(*row, np.arange(3) + row[0] + row[2]) for row in rows if not row[0] % 100]
    write(run_dir, 'eval.jsonl', evals)
    return evals
