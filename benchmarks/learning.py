"""The released code's learning beside ours: the same transitions, settings, budget and simulator.

  python benchmarks/learning.py --reference_dtql=DIR                           # DTQL, three tasks
  python benchmarks/learning.py --reference_dtql=DIR --envs=pointmaze-umaze --steps=2000
  python benchmarks/learning.py --reference_dql=DIR --method=dql --envs=pointmaze-medium

DIR is a checkout, see `reference.py`. Its `train()` makes the updates and its `sample_action()`
acts, in a process for each seed; ours trains all seeds in one run. Both have the released widths,
the settings of our table but for the weight of the trust region, and the same starts of episodes.
The result file keeps what is done: started again, the script continues where it was stopped, for
other tasks and methods too.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import measure
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from reference import WORKER

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.data.load import load
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.report.plots import FAINT, INK, PALETTE
from dtql_jax.rollout.evaluate import start_seed
from dtql_jax.runs.plan import Plan, make_plan, make_request
from dtql_jax.runs.run import run
from dtql_jax.types import UserError

FLAGS = measure.make_flags()
flags.DEFINE_list(
    'envs', ['pointmaze-medium', 'pointmaze-large', 'halfcheetah-medium'], 'tasks', FLAGS
)
flags.DEFINE_enum('method', 'dtql', ['dtql', 'dql'], 'DTQL or Diffusion-QL', FLAGS)
flags.DEFINE_string('reference_dtql', None, 'checkout of the released DTQL', FLAGS)
flags.DEFINE_string('reference_dql', None, 'checkout of the released Diffusion-QL', FLAGS)
define_whole('num_seeds', 3, 'seeds of both', FLAGS)
define_whole('steps', 5_000, 'updates of the last phase', FLAGS)
define_whole('pretrain_steps', 1_000, 'updates before it, of DTQL', FLAGS)
define_whole('eval_every', 1_000, 'updates between evaluations, at most 1,000', FLAGS)
define_whole('batch_size', 128, 'batch size', FLAGS)
define_whole('eval_episodes', 20, 'episodes of an evaluation in a maze', FLAGS)
define_whole('long_episodes', 3, 'episodes of an evaluation where each has 1,000 steps', FLAGS)
define_whole('candidates', 32, 'samples that DTQL chooses among', FLAGS)
flags.DEFINE_string('runs', 'runs/learning', 'where our run folders go', FLAGS)
flags.DEFINE_string('chart', None, 'PNG file to draw the curves of all rows in', FLAGS)

AGENTS = {'dtql': 'dtql', 'dql': 'diffusion_ql'}
WIDTH = 256  # the only one that the released networks have
RELEASED_CANDIDATES = 50  # of Diffusion-QL, written into its code
# Weights that learn in few updates; those of the table are for far longer runs.
SETTINGS = {
    ('pointmaze-medium', 'dtql'): {'alpha': 0.5},
    ('pointmaze-large', 'dtql'): {'alpha': 0.5},
    ('halfcheetah-medium', 'dtql'): {'alpha': 30.0},
}
# Our name of a loss -> that of the released code, and the sign between them.
LOSSES = {
    'dtql': {
        'critic/loss': ('critic_loss', 1),
        'mu/loss': ('bc_loss', 1),
        'pi/trust_loss': ('distill_loss', 1),
        'pi/q': ('ql_loss', -1),
    },
    'dql': {
        'critic/loss': ('critic_loss', 1),
        'actor/clone_loss': ('bc_loss', 1),
        'actor/q_loss': ('ql_loss', 1),
    },
}


def wanted(env: str, asked: flags.FlagValues) -> dict[str, Any]:
    """What is asked of our run; the released code gets the same."""
    settings = {'hidden': WIDTH, 'batch_size': asked.batch_size, 'clone_seeds': 0}
    settings |= {'steps': asked.steps, 'eval_every': asked.eval_every}
    if asked.method == 'dtql':
        settings |= {'pretrain_steps': asked.pretrain_steps, 'candidates': asked.candidates}
    else:
        settings |= {'candidates': RELEASED_CANDIDATES, 'lr_decay': 'none'}
    settings |= SETTINGS.get((env, asked.method), {})
    request = {'env': env, 'agent': AGENTS[asked.method], 'num_seeds': asked.num_seeds}
    long = make_plan(make_request(request)).task.horizon >= 1000
    episodes = asked.long_episodes if long else asked.eval_episodes
    return {**request, 'settings': settings, 'eval_episodes': episodes}


def released_settings(method: str, plan: Plan) -> dict[str, Any]:
    """The arguments of the released constructor that say what our settings say."""
    c: Any = plan.config
    shared = {name: getattr(c, name) for name in ('lr', 'tau', 'discount')}
    if method == 'dql':
        own = {'eta': c.eta, 'grad_norm': c.max_norm, 'max_q_backup': c.max_q_backup}
        return {**shared, **own}
    own = {name: getattr(c, name) for name in ('alpha', 'gamma', 'expectile', 'lr_decay')}
    return {**shared, **own, 'lr_maxt': c.steps, 'repeats': c.candidates}


def ours(env: str, asked: flags.FlagValues) -> list[dict[str, Any]]:
    """A row for each seed of our run, which is trained or continued."""
    out = pathlib.Path(asked.runs, f'{env}-{asked.method}-{asked.steps}')
    run(wanted(env, asked), out=out, resume=out.exists())
    logs = {name: read_jsonl(out / f'{name}.jsonl') for name in ('eval', 'metrics')}
    rows = []
    for seed in range(asked.num_seeds):
        mine = {n: [row for row in log if row['seed'] == seed] for n, log in logs.items()}
        trained = [row for row in mine['metrics'] if row['phase'] == 'train']
        losses = {name: [row[name] for row in trained] for name in LOSSES[asked.method]}
        steps = [row['step'] for row in mine['eval']]
        if steps != [row['step'] for row in trained]:
            raise UserError(f'{out}: `eval_every` must be at most 1,000 and divide the phases')
        scores = [row['eval/score'] for row in mine['eval']]
        rows.append({'seed': seed, 'steps': steps, 'scores': scores, 'losses': losses})
    return rows


def theirs(seed: int, plan: Plan, folder: str, asked: flags.FlagValues) -> dict[str, Any]:
    """The row of a seed of the released code."""
    checkout = asked[f'reference_{asked.method}'].value
    given = released_settings(asked.method, plan)
    command = [
        *(sys.executable, str(WORKER), f'--method={asked.method}', f'--checkout={checkout}'),
        *(f'--data={folder}/data.npz', f'--task={folder}/task.json', f'--seed={seed}'),
        *(f'--batch_size={asked.batch_size}', f'--settings={json.dumps(given)}'),
    ]
    starts = ' '.join(str(start_seed(0, i)) for i in range(plan.eval_episodes))
    pipe, one_thread = subprocess.PIPE, {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=one_thread)
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def ask(job: str) -> Any:
        print(job, file=requests, flush=True)
        if not (line := answers.readline()):
            raise UserError('the released code failed: see above')
        return json.loads(line)

    with process, contextlib.closing(requests):
        if not (torch := answers.readline().strip()):
            raise UserError('the released code did not start: see above')
        began, step = time.monotonic(), 0
        row: dict[str, Any] = {'seed': seed, 'steps': [], 'scores': [], 'torch': torch}
        row['losses'] = {name: [] for name in LOSSES[asked.method]}
        if asked.method == 'dtql':
            ask(f'pretrain {asked.pretrain_steps}')
            step = asked.pretrain_steps
        for _ in range(asked.steps // asked.eval_every):
            means = ask(f'train {asked.eval_every}')
            step += asked.eval_every
            for name, (released, sign) in LOSSES[asked.method].items():
                row['losses'][name].append(sign * means[released])
            returns, success, _ = np.array(ask(f'play {starts}')).T
            scores = plan.task.score(returns, success)
            row['scores'].append(float(np.mean(returns if scores is None else scores)))
            row['steps'].append(step)
        return {**row, 'seconds': time.monotonic() - began}


def compare(env: str, asked: flags.FlagValues, report: measure.Report) -> None:
    """Adds the rows of a task that the report lacks."""
    key = {'method': asked.method, 'env': env}
    rows = [row for row in report.rows if key.items() <= row.items()]
    plan = make_plan(make_request(wanted(env, asked)))
    key |= {'batch_size': asked.batch_size, 'eval_episodes': plan.eval_episodes}
    key |= {'settings': released_settings(asked.method, plan)}
    before = asked.pretrain_steps if asked.method == 'dtql' else 0
    steps = [before + at for at in range(asked.eval_every, asked.steps + 1, asked.eval_every)]
    if not all({**key, 'steps': steps}.items() <= row.items() for row in rows):
        raise UserError(
            f'{asked.out} has rows of {env} with other settings or updates: name another file'
        )
    done = {(row['released'], row['seed']) for row in rows}
    for row in ours(env, asked):
        if (False, row['seed']) not in done:
            report.add({**key, 'released': False, **row})
    dataset = load(plan.task, reward=plan.config.reward)
    data = dataset.transitions
    columns = {'observations': data.obs, 'actions': data.action, 'rewards': data.reward}
    columns |= {'terminals': 1 - data.mask, 'next_observations': data.next_obs}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(pathlib.Path(folder, 'data.npz'), **columns)
        pathlib.Path(folder, 'task.json').write_text(json.dumps(dataclasses.asdict(dataset.task)))
        for seed in range(asked.num_seeds):
            if (True, seed) not in done:
                report.add({**key, 'released': True, **theirs(seed, plan, folder, asked)})


@dataclasses.dataclass(frozen=True)
class Both:
    """The rows of a method and a task, ours and those of the released code."""

    ours: list[dict[str, Any]]
    released: list[dict[str, Any]]

    def curves(self, name: str) -> list[np.ndarray]:
        """The scores, or a loss, of both: `[S, E]` each."""
        rows = (self.ours, self.released)
        return [
            np.array([r['scores'] if name == 'score' else r['losses'][name] for r in part])
            for part in rows
        ]

    def overlaps(self, name: str) -> tuple[int, int]:
        """At how many evaluations the ranges of the two overlap, and of how many."""
        (a, b) = self.curves(name)
        apart = (a.min(0) > b.max(0)) | (b.min(0) > a.max(0))
        return int((~apart).sum()), len(apart)


def pairs(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Both]:
    """The rows by method and task, where both have some."""
    found = {}
    for key in dict.fromkeys((row['method'], row['env']) for row in rows):
        mine = [row for row in rows if (row['method'], row['env']) == key]
        both = Both(*([r for r in mine if r['released'] == which] for which in (False, True)))
        if both.ours and both.released:
            found[key] = both
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Scores of each seed, means over the last window of losses, and overlaps, as Markdown."""
    lines = [
        '| task | | ours, each seed | released, each seed | ranges overlap |',
        '|---|---|---|---|---|',
    ]
    for (method, env), both in pairs(rows).items():
        for name in ('score', *LOSSES[method]):
            ends = (
                ', '.join(f'{x:.3g}' for x in sorted(curve[:, -1])) for curve in both.curves(name)
            )
            shared, count = both.overlaps(name)
            label = f'{AGENTS[method]}, {env}'
            lines.append(f'| {label} | {name} | {" | ".join(ends)} | {shared} of {count} |')
    return '\n'.join(lines)


def chart(rows: list[dict[str, Any]]) -> Figure:
    """The scores of both over the updates, a panel for each method and task."""
    found = pairs(rows)
    figure = Figure(figsize=(3.4 * len(found), 3.2), dpi=120, layout='constrained')
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, ((method, env), both) in zip(axes, found.items(), strict=True):
        parts = {'ours': both.ours, 'released': both.released}
        for (label, part), colour in zip(parts.items(), PALETTE, strict=False):
            for row in part:
                axis.plot(row['steps'], row['scores'], color=colour, lw=0.9, alpha=0.5)
            mean = np.mean([row['scores'] for row in part], 0)
            axis.plot(part[0]['steps'], mean, color=colour, lw=2.2, label=label)
        axis.set_title(f'{AGENTS[method]}, {env}', fontsize=9, color=INK, loc='left')
        axis.set_xlabel('updates')
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', color=FAINT, lw=0.6)
    axes[0].set_ylabel('score: seeds (thin), mean')
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def main(asked: flags.FlagValues) -> None:
    report = measure.Report(asked.out, keep=True)
    if not asked[f'reference_{asked.method}'].value:
        raise UserError(f'no checkout of the released code: give `reference_{asked.method}`')
    for env in asked.envs:
        compare(env, asked, report)
    print(table(report.rows))
    if asked.chart:
        chart(report.rows).savefig(asked.chart)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
