"""What each part of DTQL contributes: numbers and curves of the studies `ablation_*.toml`.

  for name in alpha schedule kl likelihood clip pretraining policy; do
    dtql sweep --study=experiments/studies/ablation_$name.toml --out=studies/ablation_$name
  done
  python experiments/studies/ablations.py --studies=studies --chart=docs/ablations.png

Each cell differs in one thing from the base, which is the middle weight of `ablation_alpha.toml`;
those with another schedule or loss have several weights. The score of a seed is the mean of its
last two evaluations, because a single one may be far off. The base's last networks also act in
other ways: by the choice among other numbers of candidates, drawn or the best. A cell is told from
the base where both the bootstrap interval of the difference of means excludes 0 and a permutation
test has p at most 0.05; else it is called inconclusive. The result file keeps the ways to act that
it has: started again, the script plays only the others. It keeps the tasks that have no runs here.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import dtql_jax
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.report.comparison import difference_of_means
from dtql_jax.report.plots import FAINT, INK, PALETTE
from dtql_jax.report.statistics import bootstrap_interval
from dtql_jax.rollout.player import Conditions, open_player
from dtql_jax.runs.config_file import seal
from dtql_jax.runs.policy import Run
from dtql_jax.studies.results import find_runs
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string('studies', 'studies', 'folder of the studies', FLAGS)
flags.DEFINE_list('candidates', ['1', '8', '64', '1024'], 'numbers of samples to choose of', FLAGS)
define_whole('eval_episodes', 10, 'episodes of each seed in each way to act', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/ablations.json', 'JSON file to write', FLAGS)
flags.DEFINE_string('chart', None, 'PNG file to draw the curves in', FLAGS)

BASE = {  # of earlier versions too: `num_critics`, `q_aggregate`
    'alpha': 0.5, 'gamma': 0.0, 'schedule': 'edm', 'policy': 'gaussian', 'clip_denoised': True,
    'normalise_q': False, 'num_critics': 2, 'q_aggregate': 'min', 'v_layer_norm': False,
    'policy_layer_norm': False, 'normalize_obs': False, 'horizon_length': 1,
}  # fmt: skip
OF_TASK = {  # in place of those
    'pointmaze-large': {'alpha': 0.15},
    'halfcheetah-medium': {'alpha': 30.0},
    'antmaze-large-navigate-singletask-task4-v0': {'gamma': 1.0},
}
WEIGHED = ('schedule', 'normalise_q')  # settings whose cells have several weights
LAST = 2  # evaluations whose mean is the score of a seed
ARGMAX = 1e6  # an inverse temperature at which the best candidate is drawn
EVAL_SEED = 1  # other starts than those of training

# The panels of the figure: a title, and whether a cell's name belongs there.
PANELS: dict[str, Callable[[str], bool]] = {
    'weight of the trust region': lambda name: name == 'base' or name.startswith('alpha='),
    'VP': lambda name: name == 'base' or name.startswith('schedule=vp'),
    'VE': lambda name: name == 'base' or name.startswith('schedule=ve'),
    'KL in place of it': lambda name: name == 'base' or name.startswith('dql_kl'),
    'other parts': lambda name: '=' not in name or name.partition('=')[0] in PARTS,
}
PARTS = ('gamma', 'policy', 'clip_denoised', 'pretrain_steps')


def base_of(task: str) -> dict[str, Any]:
    """The settings of the base on a task."""
    return BASE | OF_TASK.get(task, {})


def name_of(task: str, agent: str, values: dict[str, Any]) -> str:
    """How the lane with these settings differs from the base: 'base', 'schedule=vp alpha=0.1'."""
    usual = base_of(task)
    # A run of an earlier version has no value where the setting is new.
    given = {name: values[name] for name in usual if values.get(name) is not None}
    alpha = given.pop('alpha')
    differs = [f'{name}={value}' for name, value in given.items() if value != usual[name]]
    if values.get('pretrain_steps') == 0:
        differs.append('pretrain_steps=0')
    if agent != 'dtql':
        differs = [agent]  # whose other settings are those of the base
    weighed = agent != 'dtql' or any(text.startswith(WEIGHED) for text in differs)
    if weighed or alpha != usual['alpha']:
        differs.append(f'alpha={alpha:g}')
    return ' '.join(differs) or 'base'


def names(table: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """The task, and the name of the cell, of each row."""
    settings = [name for name in table if name.startswith('set/')]
    for row, task in enumerate(table['task']):
        values = {name.removeprefix('set/'): table[name][row] for name in settings}
        yield task, name_of(task, table['agent'][row], values)


def scores(table: dict[str, np.ndarray]) -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """(task, name of the cell) -> step -> seed -> score, of lanes that did not fail."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for row, (key, step) in enumerate(zip(names(table), table['step'], strict=True)):
        cell = found.setdefault(key, {})
        if not np.isnan(table['score'][row]):
            cell.setdefault(int(step), {})[int(table['seed'][row])] = float(table['score'][row])
    return found


def summary(values: list[float], base: list[float]) -> dict[str, Any]:
    """Mean, standard error and 95 % interval of the mean, and the difference from the base."""
    apart = difference_of_means(values, base)
    return {
        'scores': values,
        'mean': float(np.mean(values)),
        'standard_error': float(np.std(values, ddof=1) / np.sqrt(len(values))),
        'interval': bootstrap_interval(values, np.mean),
        'difference': apart.mean,
        'difference_interval': [apart.low, apart.high],
        'p': apart.p,
        'verdict': apart.verdict,
    }


def ends(curve: dict[int, dict[int, float]]) -> list[float]:
    """The score of each seed that has the last evaluations."""
    last = [curve[step] for step in sorted(curve)[-LAST:]]
    return [float(np.mean([at[seed] for at in last])) for seed in last[-1] if seed in last[0]]


def cells(table: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """A row for each cell: the scores of its seeds, summarised, and its curve."""
    found = scores(table)
    for (task, name), curve in found.items():
        if (task, 'base') not in found:
            raise UserError(f'{task}: there is no run of the base: run its study first')
        steps = sorted(curve)
        yield {
            'task': task,
            'cell': name,
            **summary(ends(curve), ends(found[task, 'base'])),
            'steps': steps,
            'curve': [list(curve[step].values()) for step in steps],
        }


# Ways to act.


def ways(numbers: list[str]) -> Iterator[tuple[int, str]]:
    """A number of candidates, and 'drawn' or 'best'."""
    for number in sorted(map(int, numbers), reverse=True):
        yield number, 'drawn'
        if number > 1:
            yield number, 'best'


def played(base: Run, number: int, how: str, episodes: int) -> dict[str, Any]:
    """The scores of the base's lanes that choose in one way, and the seconds that it took."""
    config = dataclasses.replace(base.agent.config, candidates=number)
    agent = type(base.agent)(base.agent.spec, config)
    acting = jax.vmap(agent.acting)(base.progress.state)
    if how == 'best':
        acting['inverse_temperature'] = jnp.full_like(acting['inverse_temperature'], ARGMAX)
    weight = base_of(base.task.name)['alpha']
    lanes = [i for i, lane in enumerate(base.lanes) if lane.hparams['alpha'] == weight]
    began = time.monotonic()
    with open_player(base.task, agent, base.lanes, Conditions(episodes, None, EVAL_SEED)) as player:
        rows = player(acting, lanes)
    values = [rows[i]['eval/score'] for i in lanes]
    return {'scores': values, 'seconds': time.monotonic() - began}


def act(studies: pathlib.Path, report: dict[str, Any], asked: flags.FlagValues) -> Iterator[None]:
    """Adds the ways to act that the report lacks, one after the other."""
    bases = {}
    for path in find_runs(studies.glob('ablation_alpha*')):
        base = Run(path)
        bases[seal(base.description)[:16]] = base
    # Those of other runs of these tasks are none of these.
    tasks = {base.task.name for base in bases.values()}
    rows = report.get('acting', [])
    rows = [row for row in rows if row['run'] in bases or row['task'] not in tasks]
    report['acting'] = rows
    for run, base in bases.items():
        for number, how in ways(asked.candidates):
            key = {'task': base.task.name, 'run': run, 'candidates': number, 'choice': how}
            if not any(key.items() <= row.items() for row in rows):
                rows.append({**key, **played(base, number, how, asked.eval_episodes)})
                print(rows[-1], flush=True)
                yield


# What is shown.


def short(x: float) -> str:
    """Two digits or so."""
    return f'{x:.0f}' if abs(x) >= 10 or x == 0 else f'{x:.1f}'


def table_of(
    rows: list[dict[str, Any]], name: Callable[[dict[str, Any]], str], others: Sequence[str] = ()
) -> str:
    """Rows as Markdown, a table for each task; `others` are further columns of numbers."""
    head = ['', 'mean ± standard error', 'interval', 'minus base', 'p', '', *others]
    lines = []
    for task in dict.fromkeys(row['task'] for row in rows):
        lines += [
            f'\n**{task}**\n',
            f'| {" | ".join(head)} |'.replace('  ', ' '),
            '|---' * len(head) + '|',
        ]
        for row in (row for row in rows if row['task'] == task):
            low, high = row['interval']
            a, b = row['difference_interval']
            lines.append(
                f'| {name(row)} | {row["mean"]:.1f} ± {row["standard_error"]:.1f} '
                f'| {short(low)} to {short(high)} '
                f'| {row["difference"]:+.1f} ({short(a)} to {short(b)}) '
                f'| {row["p"]:.2f} | {row["verdict"]} |'
                + ''.join(f' {row.get(other, np.nan):.3g} |' for other in others)
            )
    return '\n'.join(lines)


def chart(rows: list[dict[str, Any]]) -> Figure:
    """The curves of all cells: a row of panels for each task; bands are standard errors."""
    tasks = list(dict.fromkeys(row['task'] for row in rows))
    others = [row['cell'] for row in rows if row['cell'] != 'base']
    panels = {title: f for title, f in PANELS.items() if any(map(f, others))}
    size = (3.1 * len(panels), 2.5 * len(tasks))
    figure = Figure(figsize=size, dpi=100, layout='constrained')
    grid = figure.subplots(len(tasks), len(panels), squeeze=False, sharey='row')
    for task, axes in zip(tasks, grid, strict=True):
        for axis, (title, belongs) in zip(axes, panels.items(), strict=True):
            drawn = [row for row in rows if row['task'] == task and belongs(row['cell'])]
            drawn.sort(key=lambda row: row['cell'] != 'base')  # so that its colour is the same
            for row, colour in zip(drawn, PALETTE, strict=False):
                mean, error = (
                    np.array([f(v) for v in row['curve']])
                    for f in (np.mean, lambda v: np.std(v, ddof=1) / np.sqrt(len(v)))
                )
                axis.fill_between(
                    row['steps'], mean - error, mean + error, color=colour, alpha=0.12, lw=0
                )
                axis.plot(row['steps'], mean, 'o-', ms=3, color=colour, label=row['cell'])
            axis.set_title(f'{task}: {title}', fontsize=8, color=INK, loc='left')
            axis.legend(frameon=False, fontsize=6)
            axis.spines[['top', 'right']].set_visible(False)
            axis.grid(axis='y', color=FAINT, lw=0.6)
            axis.tick_params(labelsize=7)
        axes[0].set_ylabel('score', fontsize=8)
    figure.supxlabel('updates, pre-training included', fontsize=8)
    return figure


def main(asked: flags.FlagValues) -> None:
    studies, out = pathlib.Path(asked.studies), pathlib.Path(asked.out)
    report = json.loads(out.read_text()) if out.exists() else {}
    found = sorted(studies.glob('ablation_*'))
    rows = list(cells(dtql_jax.load_results(found)))
    tasks = {row['task'] for row in rows}
    others = [row for row in report.get('cells', []) if row['task'] not in tasks]
    report['cells'] = others + rows
    report |= {'jax': jax.__version__, 'date': time.strftime('%Y-%m-%d')}

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + '\n')

    save()
    for _ in act(studies, report, asked):
        save()
    # Beside the draw from the most candidates, which the released code has.
    acting = sorted(report['acting'], key=lambda row: row['candidates'])
    drawn = {row['task']: row['scores'] for row in acting if row['choice'] == 'drawn'}
    rows = [{**row, **summary(row['scores'], drawn[row['task']])} for row in report['acting']]
    report['acting'] = rows
    save()
    print(table_of(report['cells'], lambda row: row['cell']))
    print(table_of(rows, lambda row: f'{row["candidates"]}, {row["choice"]}'))
    if asked.chart:
        chart(report['cells']).savefig(asked.chart)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
