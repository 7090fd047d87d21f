"""What a run that was extended must have in common with one that was asked for it at once."""

import numpy as np

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.policy import Run
from tests.helpers import toy
from tests.helpers.small_runs import ENV

# The run of the fixture `cloned`.
CLONED = {
    'env': ENV, 'agent': 'bc', 'hidden': 8, 'batch_size': 8, 'steps': 5, 'eval_every': 2,
    'eval_episodes': 2,
}  # fmt: skip


def rows(run_dir, log='eval'):
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in read_jsonl(run_dir / f'{log}.jsonl')
    ]


def by_step(run_dir):
    return {(row['step'], row['variant'], row['seed']): row for row in rows(run_dir)}


def assert_extended(run_dir, whole_dir):
    """The bits of a run that was asked for it from the start, and `best` is that of the rows."""
    ours, theirs = Run(run_dir), Run(whole_dir)
    for name in ('state', 'sums', 'snapshot'):
        assert toy.equal(getattr(ours.progress, name), getattr(theirs.progress, name))
    assert by_step(whole_dir).items() <= by_step(run_dir).items()
    assert ours.cursor.step == theirs.cursor.step
    identities = [dict(run.description['identity']) for run in (ours, theirs)]
    assert identities[0] == identities[1]
    for i, lane in enumerate(ours.lanes):
        scores = {
            step: np.float32(row['eval/score'])
            for (step, variant, seed), row in by_step(run_dir).items()
            if (variant, seed) == (lane.variant, lane.seed)
        }
        best = max(scores.values())
        assert ours.progress.best_score[i] == best
        assert ours.progress.best_step[i] == min(k for k, v in scores.items() if v == best)
