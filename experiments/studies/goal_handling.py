"""How a maze's goal should enter: in the observation or in the rewards, ending the return or not.

  python experiments/studies/goal_handling.py                   # pointmaze-large, four variants
  python experiments/studies/goal_handling.py --env=antmaze-large-diverse --steps=300000

Each variant trains the same agent on the same data with the same budget. The measure is the same
too: the share of episodes that reach the evaluation's goal within the horizon. The result file
keeps what is done: started again, the script continues where it was stopped.
"""

import itertools
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.folder import read_run
from dtql_jax.runs.run import run

FLAGS = flags.FlagValues()
flags.DEFINE_string('env', 'pointmaze-large', 'a maze', FLAGS)
flags.DEFINE_string('agent', 'dtql', 'algorithm', FLAGS)
define_whole('num_seeds', 2, 'seeds, trained at once', FLAGS)
define_whole('steps', 20_000, 'updates of the last phase', FLAGS)
define_whole('pretrain_steps', 4_000, 'updates before it', FLAGS)
define_whole('eval_episodes', None, 'episodes per evaluation and seed', FLAGS)
define_whole('evaluations', 2, 'evaluations, spread over the last phase', FLAGS)
flags.DEFINE_string('runs', 'runs/goal-handling', 'where the run folders go', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/goal_handling.json', 'JSON file to write', FLAGS)

ASKED = ('env', 'agent', 'num_seeds', 'steps', 'pretrain_steps', 'eval_episodes')


def measured(goal: str, success_ends: bool, asked: flags.FlagValues) -> dict[str, Any]:
    """Trains one variant, or continues it; the share of successes at each evaluation."""
    out = pathlib.Path(asked.runs, f'{asked.env}-{goal}-{success_ends}'.lower())
    wanted = {name: asked[name].value for name in ASKED if asked[name].value is not None}
    wanted |= {'goal': goal, 'success_ends': success_ends, 'clone_seeds': 0}
    wanted['eval_every'] = -(-asked.steps // asked.evaluations)
    run({} if out.exists() else wanted, out=out, resume=out.exists())
    rows, recorded = read_jsonl(out / 'eval.jsonl'), read_run(out)
    steps = sorted({row['step'] for row in rows})
    return {
        'goal': goal,
        'success_ends': success_ends,
        'success': {s: [r['eval/success'] for r in rows if r['step'] == s] for s in steps},
        'length': {s: [r['eval/length'] for r in rows if r['step'] == s] for s in steps},
        'behaviour': recorded['data']['success_rate'],
        'devices': recorded['devices'],
        'versions': recorded['versions'],
        'date': time.strftime('%Y-%m-%d'),
    }


def main(asked: flags.FlagValues) -> None:
    path = pathlib.Path(asked.out)
    done = json.loads(path.read_text())['results'] if path.exists() else []
    known = {(row['goal'], row['success_ends']) for row in done}
    for variant in itertools.product(('relabel', 'observe'), (True, False)):
        if variant not in known:
            done.append(measured(*variant, asked))
            path.parent.mkdir(parents=True, exist_ok=True)
            head = {name: asked[name].value for name in ASKED}
            path.write_text(json.dumps({**head, 'results': done}, indent=2) + '\n')
    print(f'\n{asked.env}: share of episodes that reach the goal, each seed, by evaluation')
    for row in done:
        ends = 'ends the return' if row['success_ends'] else 'goes on'
        shares = '; '.join(f'{step}: {share}' for step, share in row['success'].items())
        print(f'  {row["goal"]:8} {ends:16} {shares}')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
