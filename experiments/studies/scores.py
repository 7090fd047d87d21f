"""Writes the scores of studies' runs to one JSON file: each seed's, at each evaluation.

The file also has the machine and the date of its writing: write it where and when the runs end.

python experiments/studies/scores.py --studies=studies/rivals --out=benchmarks/results/rivals.json

--chart=FILE.png also draws the curves: means over seeds, each seed as a thin line. A dotted upright
line marks where an agent goes on in the environment.
"""

import json
import pathlib
import runpy
import sys

import numpy as np
from absl import flags
from matplotlib.figure import Figure

import dtql_jax
from dtql_jax.cli.flags import run_command
from dtql_jax.report.plots import FAINT, INK, PALETTE
from dtql_jax.studies.results import read_run

MEASURE = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'measure.py'

FLAGS = flags.FlagValues()
flags.DEFINE_list('studies', [], 'folders of studies or of runs', FLAGS)
flags.DEFINE_string('out', None, 'JSON file to write', FLAGS)
flags.DEFINE_string('chart', None, 'PNG file to draw the curves in', FLAGS)


def scores(studies: list[str]) -> list[dict]:
    """A row per task, agent and variant, and length of chunks where these differ."""
    table = dtql_jax.load_results(studies)
    names = ['task', 'agent', 'variant']
    names += [name for name in ('set/horizon_length',) if name in table]
    rows = []
    for key in dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True)):
        mine = np.all([table[name] == value for name, value in zip(names, key, strict=True)], 0)
        at = {
            int(step): table['score'][mine & (table['step'] == step)].round(1).tolist()
            for step in np.unique(table['step'][mine])
        }
        record = read_run(pathlib.Path(table['run'][mine][0]))
        switch = {} if record.switch is None else {'switch': record.switch}
        rows.append(
            {
                **{n.removeprefix('set/'): v for n, v in zip(names, key, strict=True)},
                'batch_size': record.config['identity']['config']['batch_size'],
                **switch,
                'scores': at,
            }
        )
    return rows


def chart(rows: list[dict]) -> Figure:
    """The curves of all tasks, side by side."""
    tasks = list(dict.fromkeys(row['task'] for row in rows))
    figure = Figure(figsize=(4.2 * len(tasks), 3), dpi=100, layout='constrained')
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        mine = [row for row in rows if row['task'] == task]
        for row, colour in zip(mine, PALETTE, strict=False):
            steps, values = list(row['scores']), np.array(list(row['scores'].values()))
            axis.plot(steps, values, color=colour, lw=0.6, alpha=0.5)
            axis.plot(steps, values.mean(axis=1), 'o-', ms=3, color=colour, label=row['variant'])
            if 'switch' in row:
                axis.axvline(row['switch'], color=colour, lw=1.1, ls=(0, (1, 2)))
        axis.set_title(task, fontsize=9, color=INK, loc='left')
        axis.legend(frameon=False, fontsize=8)
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', color=FAINT, lw=0.6)
        axis.set_xlabel('updates, pre-training included', fontsize=8)
        axis.set_ylabel('score', fontsize=8)
    return figure


def main(asked: flags.FlagValues) -> None:
    found = scores(asked.studies)
    machine = runpy.run_path(str(MEASURE))['machine']()  # this one, today
    text = json.dumps({**machine, 'results': found}, indent=2)
    pathlib.Path(asked.out).write_text(text + '\n')
    if asked.chart:
        chart(found).savefig(asked.chart)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
