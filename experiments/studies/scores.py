"""Writes the scores of studies' runs to one JSON file: each seed's, at each evaluation.

The file also has the machine and the date of its writing: write it where and when the runs end.

python experiments/studies/scores.py --studies=studies/rivals --out=benchmarks/results/rivals.json
"""

import json
import pathlib
import runpy
import sys

import numpy as np
from absl import flags

import dtql_jax
from dtql_jax.cli.flags import run_command

MEASURE = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'measure.py'

FLAGS = flags.FlagValues()
flags.DEFINE_list('studies', [], 'folders of studies or of runs', FLAGS)
flags.DEFINE_string('out', None, 'JSON file to write', FLAGS)


def scores(studies: list[str]) -> list[dict]:
    """A row per task, agent and variant."""
    table = dtql_jax.load_results(studies)
    names = ('task', 'agent', 'variant')
    rows = []
    for key in dict.fromkeys(zip(*(table[name] for name in names), strict=True)):
        mine = np.all([table[name] == value for name, value in zip(names, key, strict=True)], 0)
        at = {
            int(step): table['score'][mine & (table['step'] == step)].round(1).tolist()
            for step in np.unique(table['step'][mine])
        }
        run = pathlib.Path(table['run'][mine][0])
        config = json.loads((run / 'config.json').read_text())['identity']['config']
        rows.append(
            {
                **dict(zip(names, key, strict=True)),
                'batch_size': config['batch_size'],
                'scores': at,
            }
        )
    return rows


def main(asked: flags.FlagValues) -> None:
    found = scores(asked.studies)
    machine = runpy.run_path(str(MEASURE))['machine']()  # this one, today
    text = json.dumps({**machine, 'results': found}, indent=2)
    pathlib.Path(asked.out).write_text(text + '\n')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
