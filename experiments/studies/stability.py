"""How steadily DTQL and Diffusion-QL train: the numbers of the study `stability.toml`.

  dtql sweep --study=experiments/studies/stability.toml --out=studies/stability
  python experiments/studies/stability.py --study=studies/stability --chart=docs/stability.png

Each measure is a number for each seed. Evaluations count from the first that all variants have,
since DTQL plays none while it pre-trains. `steps` is the mean change between two consecutive
evaluations, `drop` the largest fall below the best evaluation so far, `end` how far the last one is
below the best. `policy_norm` and `critic_norm` are the mean norms of the gradients before they are
clipped, `policy_spread` the deviation of the policy's over the windows of the log as a share of
that mean. `q_low` and `q_high` are the ends of the critic's mean Q over the windows.
"""

import json
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import dtql_jax
from dtql_jax.cli.flags import run_command
from dtql_jax.report.comparison import difference_of_means
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.report.plots import FAINT, INK, PALETTE

FLAGS = flags.FlagValues()
flags.DEFINE_string('study', 'studies/stability', 'folder of the study', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/stability.json', 'JSON file to write', FLAGS)
flags.DEFINE_string('chart', None, 'PNG file to draw the curves in', FLAGS)

POLICY = {'dtql': 'pi', 'diffusion_ql': 'actor'}  # the network that maximises Q


def of_scores(scores: np.ndarray) -> dict[str, float]:
    """What the evaluations `[E]` of a seed say."""
    best = np.maximum.accumulate(scores)
    return {
        'mean': float(scores.mean()),
        'last': float(scores[-1]),
        'steps': float(np.abs(np.diff(scores)).mean()),
        'drop': float((best - scores).max()),
        'end': float(best[-1] - scores[-1]),
    }


def of_metrics(rows: list[dict[str, Any]], policy: str) -> dict[str, float]:
    """What the log of a seed says of the last phase."""
    last = [row for row in rows if row['phase'] == 'train']
    norm = np.array([row[f'{policy}/grad_norm'] for row in last])
    q = [row['critic/q'] for row in last]
    return {
        'policy_norm': float(norm.mean()),
        'policy_spread': float(norm.std() / norm.mean()),
        'policy_most': float(norm.max()),
        'critic_norm': float(np.mean([row['critic/grad_norm'] for row in last])),
        'q_low': min(q),
        'q_high': max(q),
    }


def shared_steps(table: dict[str, np.ndarray]) -> dict[str, set[int]]:
    """Task -> the steps at which every variant was evaluated."""
    found: dict[tuple[str, str, str], set[int]] = {}
    names = zip(table['task'], table['run'], table['variant'], strict=True)
    for name, step in zip(names, table['step'].tolist(), strict=True):
        found.setdefault(name, set()).add(step)
    return {
        task: set.intersection(*(steps for name, steps in found.items() if name[0] == task))
        for task, *_ in found
    }


def measured(table: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each task and variant: the measures of each seed, and the evaluations."""
    rows, shared = [], shared_steps(table)
    names = zip(table['run'], table['variant'], strict=True)
    for run, variant in dict.fromkeys(names):
        mine = (table['run'] == run) & (table['variant'] == variant)
        steps = table['step'][mine & (table['seed'] == table['seed'][mine][0])]
        counted = np.isin(steps, list(shared[table['task'][mine][0]]))
        agent = table['agent'][mine][0]
        log = read_jsonl(pathlib.Path(run, 'metrics.jsonl'))
        seeds = sorted(set(table['seed'][mine].tolist()))
        curves = {seed: table['score'][mine & (table['seed'] == seed)] for seed in seeds}
        measures = []
        for seed, scores in curves.items():
            told = [row for row in log if (row['variant'], row['seed']) == (variant, seed)]
            measures.append({**of_scores(scores[counted]), **of_metrics(told, POLICY[agent])})
        rows.append({
            'task': table['task'][mine][0],
            'agent': agent,
            'variant': agent if variant == agent else f'{agent}, {variant}',
            'steps': steps.tolist(),
            'scores': [scores.tolist() for scores in curves.values()],
            'measures': {name: [m[name] for m in measures] for name in measures[0]},
        })  # fmt: skip
    return rows


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """DTQL against each variant of Diffusion-QL in each measure, on the same task."""
    found = []
    for ours in (row for row in rows if row['agent'] == 'dtql'):
        for theirs in (r for r in rows if r['task'] == ours['task'] and r['agent'] != 'dtql'):
            for name, values in ours['measures'].items():
                apart = difference_of_means(values, theirs['measures'][name])
                found.append({
                    'task': ours['task'],
                    'against': theirs['variant'],
                    'measure': name,
                    'difference': apart.mean,
                    'interval': [apart.low, apart.high],
                    'p': apart.p,
                    'dtql_is': apart.verdict,
                })  # fmt: skip
    return found


def table_of(rows: list[dict[str, Any]]) -> str:
    """The measures as Markdown, mean and standard error over the seeds."""
    names = list(rows[0]['measures'])
    lines = [f'| task | | {" | ".join(names)} |', '|---' * (len(names) + 2) + '|']
    for row in rows:
        cells = [
            f'{np.mean(values):.3g} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2g}'
            for values in row['measures'].values()
        ]
        lines.append(f'| {row["task"]} | {row["variant"]} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def chart(rows: list[dict[str, Any]]) -> Figure:
    """Each seed's evaluations: a panel for each task and variant."""
    tasks = list(dict.fromkeys(row['task'] for row in rows))
    columns = max(sum(row['task'] == task for row in rows) for task in tasks)
    size = (3.4 * columns, 2.6 * len(tasks))
    figure = Figure(figsize=size, dpi=110, layout='constrained')
    grid = figure.subplots(len(tasks), columns, squeeze=False, sharey=True)
    for task, axes in zip(tasks, grid, strict=True):
        for axis, row in zip(axes, (row for row in rows if row['task'] == task), strict=False):
            for scores, colour in zip(row['scores'], PALETTE, strict=False):
                axis.plot(row['steps'], scores, color=colour, lw=1)
            axis.set_title(f'{task}: {row["variant"]}', fontsize=8, color=INK, loc='left')
            axis.spines[['top', 'right']].set_visible(False)
            axis.grid(axis='y', color=FAINT, lw=0.6)
            axis.tick_params(labelsize=7)
        axes[0].set_ylabel('score of each seed', fontsize=8)
    figure.supxlabel('updates, pre-training included', fontsize=8)
    return figure


def main(asked: flags.FlagValues) -> None:
    rows = measured(dtql_jax.load_results(asked.study))
    report = {'rows': rows, 'compared': compared(rows)}
    report |= {'jax': jax.__version__, 'date': time.strftime('%Y-%m-%d')}
    out = pathlib.Path(asked.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + '\n')
    print(table_of(rows))
    for row in report['compared']:
        low, high = row['interval']
        print(f'{row["task"]}, DTQL against {row["against"]}: {row["measure"]} {row["dtql_is"]} '
              f'({row["difference"]:+.3g}, {low:.3g} to {high:.3g}, p {row["p"]:.2f})')  # fmt: skip
    if asked.chart:
        chart(rows).savefig(asked.chart)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
