"""Run folders with made-up results, written as a run writes them, without any training."""

import dataclasses
import json

import numpy as np

from dtql_jax.report.loggers import JsonlLog
from dtql_jax.runs.config_file import CONFIG, FORMAT, seal
from dtql_jax.runs.folder import versions
from dtql_jax.runs.plan import make_plan, make_request

EVERY = 1000  # updates between two evaluations


def write_run(run_dir, scores, diverged=None, fingerprint='f' * 64, end=None, **asked):
    """Writes a run folder, and returns it.

    Args:
        run_dir: the folder.
        scores: of each lane, in the order of the run's lanes: of each evaluation the scores of its
            episodes, or a text where it failed.
        diverged: the update at which a lane, by its index, was given up.
        fingerprint: of the data.
        end: the update at which the run ends; None as in runs of earlier versions, which tell none.
        asked: the request.
    """
    request = make_request({'clone_seeds': 0, **asked})
    plan = make_plan(request)
    content = json.loads(json.dumps({
        'format': FORMAT, 'request': dataclasses.asdict(request), 'identity': plan.identity(),
        'agent_file': None, 'agent_class': plan.agent.__qualname__, 'spec': {},
        'data': {
            'datasets': list(plan.task.datasets), 'source': plan.task.source, 'score': 40.0,
            'environment': plan.task.env_id, 'reward_transform': plan.config.reward,
            'fingerprint': fingerprint,
        },
        'versions': versions(), 'devices': ['cuda:0', 'cuda:1'], 'compiler': {},
    }))  # fmt: skip
    if end is not None:
        content['updates_before'] = end - plan.config.steps
    run_dir.mkdir(parents=True)
    (run_dir / CONFIG).write_text(json.dumps({**content, 'sha256': seal(content)}))
    with JsonlLog(run_dir / 'eval.jsonl') as log:
        for i in range(max(map(len, scores), default=0)):
            for lane, mine in zip(plan.lanes, scores, strict=True):
                if i < len(mine):
                    log.write(evaluation(lane, (i + 1) * EVERY, mine[i], plan.task))
    with JsonlLog(run_dir / 'metrics.jsonl') as log:
        for number, lane in enumerate(plan.lanes):
            row = {'step': EVERY, 'variant': lane.variant, 'seed': lane.seed, 'phase': 'train'}
            if number in (diverged or {}):
                row['diverged_at'] = diverged[number]
            log.write({**row, 'time/updates_per_s': 250.0, 'time/elapsed_s': 75.0})
    return run_dir


def evaluation(lane, step, scores, task):
    """A row of `eval.jsonl`."""
    row = {'step': step, 'variant': lane.variant, 'seed': lane.seed}
    if isinstance(scores, str):
        return {**row, 'eval/failed': scores, 'eval/episodes': 2, 'time/eval_s': 3.0}
    values = [float(score) for score in scores]
    named = {} if task.score_range is None else {'episode/score': values}
    return {
        **row, 'eval/score': float(np.mean(values)), 'eval/return': float(np.mean(values)),
        'eval/length': 100.0, 'eval/episodes': len(values), **named,
        'episode/return': values, 'episode/length': [100] * len(values), 'time/eval_s': 3.0,
    }  # fmt: skip


def noisy(seed, lanes, evaluations=3, episodes=4, mean=50.0):
    """Scores for `write_run` that rise to a mean, with noise."""
    rng = np.random.default_rng(seed)
    levels = mean * np.arange(1, evaluations + 1) / evaluations
    return np.round(rng.normal(levels[:, None], 8, (lanes, evaluations, episodes)), 3).tolist()
