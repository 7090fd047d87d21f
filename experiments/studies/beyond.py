"""What DTQL's settings beyond the paper pay: studies `beyond_*` and `chunking*`, and their base.

  for name in normalise_q v_layer_norm policy_layer_norm normalize_obs; do
    dtql sweep --study=experiments/studies/beyond_$name.toml --out=studies/beyond_$name
  done
  python experiments/studies/beyond.py --studies=studies

The base is that of `ablation_alpha.toml` in the point mazes and `beyond_antmaze.toml` on
OGBench's antmaze. Cells, scores and verdicts are those of `ablations.py`. Two more columns are the
mean Q of the policy's actions and their trust region, in the last row of each seed's log.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import ablations
import jax
import numpy as np
from absl import flags

import dtql_jax
from dtql_jax.cli.flags import run_command
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.config_file import read_config
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_list('studies', ['studies'], 'folders that hold the studies', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/beyond.json', 'JSON file to write', FLAGS)

STUDIES = ('ablation_alpha*', 'beyond_*', 'chunking*')
MEASURES = ('pi/q', 'pi/trust_loss')


def read(folders: list[str]) -> dict[str, np.ndarray]:
    """The evaluations of all studies in some folders.

    They have a column for each setting that names a cell, also for that of the task.
    """
    studies = [path for root in folders for name in STUDIES for path in Path(root).glob(name)]
    if not studies:
        raise UserError(f'`studies`: {" or ".join(STUDIES)} is not in {", ".join(folders)}')
    table = dtql_jax.load_results(sorted(studies))
    settings = {}
    for run in set(table['run']):
        identity = read_config(Path(run))['identity']
        settings[run] = identity['config'] | {
            'normalize_obs': identity['task'].get('normalize_obs', False)
        }
    for name in ('alpha', 'pretrain_steps', *ablations.BASE):
        values = [settings[run].get(name) for run in table['run']]
        table.setdefault(f'set/{name}', np.array(values, object))
    return table


def logged(table: dict[str, np.ndarray]) -> dict[tuple[str, str], dict[str, float]]:
    """(task, name of the cell) -> the mean over its seeds of each measure in the log's last row."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for run in set(table['run']):
        for row in read_jsonl(Path(run, 'metrics.jsonl')):
            rows[run, row['variant'], row['seed']] = row
    lanes = zip(*(table[name] for name in ('run', 'variant', 'seed')), strict=True)
    cells: dict[tuple[str, str], dict[Any, dict[str, Any]]] = {}
    for cell, lane in zip(ablations.names(table), lanes, strict=True):
        if all(name in rows.get(lane, {}) for name in MEASURES):
            cells.setdefault(cell, {})[lane] = rows[lane]
    return {
        cell: {name: float(np.mean([row[name] for row in found.values()])) for name in MEASURES}
        for cell, found in cells.items()
    }


def main(asked: flags.FlagValues) -> None:
    table = read(asked.studies)
    measures = logged(table)
    rows = [
        {**row, **measures.get((row['task'], row['cell']), {})} for row in ablations.cells(table)
    ]
    report = {'cells': rows, 'jax': jax.__version__, 'date': time.strftime('%Y-%m-%d')}
    out = Path(asked.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + '\n')
    print(ablations.table_of(rows, lambda row: row['cell'], MEASURES))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
