"""What a report costs: seconds and peak memory of a page about made-up runs.

  python benchmarks/report_time.py [--runs=1000 --tasks=10 --agents=6 --out=FILE]

The runs have --lanes lanes each, five seeds of an alpha of its own, with --evaluations evaluations
of --episodes episodes, as a run writes them. `report_s` is the time of the whole command, `peak_mb`
the most memory of its process, and `page_mb` the size of the page.
"""

import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import measure
import numpy as np
from absl import flags
from measure import Report

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.report.loggers import JsonlLog
from dtql_jax.runs.config_file import CONFIG, FORMAT, seal
from dtql_jax.runs.folder import versions
from dtql_jax.runs.plan import make_plan, make_request

FLAGS = measure.make_flags()
define_whole('runs', 1000, 'runs in all', FLAGS)
define_whole('tasks', 10, 'tasks', FLAGS)
define_whole('agents', 6, 'agents', FLAGS)
define_whole('lanes', 5, 'lanes of a run', FLAGS)
define_whole('evaluations', 20, 'evaluations of a run', FLAGS)
define_whole('episodes', 10, 'episodes of an evaluation', FLAGS)
flags.DEFINE_string('study', None, 'keep runs and report in this new folder', FLAGS)

SCRIPT = pathlib.Path(__file__).parents[1] / 'experiments' / 'report.py'
TASKS = [
    *(f'{robot}-{level}-v2' for robot in ('hopper', 'walker2d', 'halfcheetah')
      for level in ('medium', 'medium-replay', 'medium-expert')),
    'antmaze-large-diverse-v2',
    'hopper-medium',
]  # fmt: skip
AGENTS = ('dtql', 'diffusion_ql', 'dql_kl', 'idql', 'srpo', 'iql', 'bc')


def config(task: str, agent: str, alpha: float, asked: flags.FlagValues) -> dict[str, Any]:
    """The `config.json` of a run with five seeds."""
    settings = {'alpha': alpha} if agent in ('dtql', 'dql_kl') else {'lr': 3e-4 * alpha}
    request = make_request(
        {'env': task, 'agent': agent, 'num_seeds': asked.lanes, 'clone_seeds': 0, **settings}
    )
    plan = make_plan(request)
    data = {
        'task': task, 'datasets': list(plan.task.datasets), 'source': plan.task.source,
        'environment': plan.task.env_id, 'reward_transform': plan.config.reward, 'score': 40.0,
        'fingerprint': f'{abs(hash(task)):064x}',
    }  # fmt: skip
    content = {
        'format': FORMAT, 'request': dataclasses.asdict(request), 'identity': plan.identity(),
        'agent_file': None, 'agent_class': plan.agent.__qualname__, 'spec': {}, 'data': data,
        'versions': versions(), 'devices': ['cuda:0'], 'compiler': {},
    }  # fmt: skip
    return json.loads(json.dumps(content))


def write_run(run_dir: pathlib.Path, content: dict[str, Any], asked: flags.FlagValues) -> None:
    """Writes the files of a run: scores that rise and level off, with seeds that differ."""
    rng = np.random.default_rng(sum(map(ord, run_dir.name)))
    run_dir.mkdir(parents=True)
    (run_dir / CONFIG).write_text(json.dumps({**content, 'sha256': seal(content)}))
    lanes, steps = content['identity']['lanes'], 50_000 * np.arange(1, asked.evaluations + 1)
    top = rng.normal(60, 12) + rng.normal(0, 6, len(lanes))
    with JsonlLog(run_dir / 'eval.jsonl') as log, JsonlLog(run_dir / 'metrics.jsonl') as metrics:
        for i, step in enumerate(steps.tolist()):
            times = {'time/updates_per_s': 400.0, 'time/elapsed_s': step / 350}
            for lane, mean in zip(lanes, top * (1 - np.exp(-i / 4)), strict=True):
                scores = np.round(rng.normal(mean, 15, asked.episodes), 4)
                where = {'step': step, 'variant': lane['variant'], 'seed': lane['seed']}
                log.write({
                    **where, 'eval/score': float(scores.mean()),
                    'eval/return': float(32.5 * scores.mean()), 'eval/length': 500.0,
                    'eval/episodes': asked.episodes, 'episode/score': scores.tolist(),
                    'episode/return': (32.5 * scores).tolist(),
                    'episode/length': [500] * asked.episodes, 'time/eval_s': 20.0,
                })  # fmt: skip
                metrics.write({**where, 'phase': 'train', 'critic/loss': 1.0, **times})


def write_study(study: pathlib.Path, asked: flags.FlagValues) -> None:
    """Writes the runs: every agent on every task, as often as needed with another setting."""
    for number in range(asked.runs):
        task = TASKS[number % asked.tasks]
        agent = AGENTS[number // asked.tasks % asked.agents]
        part = number // (asked.tasks * asked.agents)
        content = config(task, agent, round(0.5 * 1.25**part, 4), asked)
        write_run(study / 'jobs' / f'{task}-{agent}-part{part + 1}', content, asked)


def main(asked: flags.FlagValues) -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = pathlib.Path(asked.study or folder, 'study')
        write_study(study, asked)
        began = time.perf_counter()
        command = [sys.executable, str(SCRIPT), f'--study={study}']
        subprocess.run(command, check=True, env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # in KiB on Linux
        page = study / 'report' / 'index.html'
        row = {
            'runs': asked.runs, 'lanes': asked.runs * asked.lanes, 'report_s': seconds,
            'peak_mb': peak / 1024, 'page_mb': page.stat().st_size / 1e6,
        }  # fmt: skip
        Report(asked.out).add(row)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
