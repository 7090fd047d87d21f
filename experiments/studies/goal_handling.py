"""How a maze's goal should enter: in the observation or in the rewards, ending the return or not.

  python benchmarks/goal_handling.py                            # pointmaze-large, four variants
  python benchmarks/goal_handling.py --env=antmaze-large-diverse --steps=300000

Each variant trains the same agent on the same data with the same budget, and is judged by the same
measure: the share of episodes that reach the evaluation's goal within the horizon. The result file
keeps what is done: started again, the script goes on where it was stopped.
"""

import itertools
import json
import pathlib

from absl import app, flags, logging
from measure import machine

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.folder import read_run
from dtql_jax.runs.run import run

_ENV = flags.DEFINE_string('env', 'pointmaze-large', 'a maze')
_AGENT = flags.DEFINE_string('agent', 'dtql', 'algorithm')
_SEEDS = flags.DEFINE_integer('num_seeds', 2, 'seeds, trained at once')
_STEPS = flags.DEFINE_integer('steps', 20_000, 'updates of the last phase')
_PRETRAIN = flags.DEFINE_integer('pretrain_steps', 4_000, 'updates before it')
_EVALUATIONS = flags.DEFINE_integer('evaluations', 2, 'evaluations, spread over the last phase')
_RUNS = flags.DEFINE_string('runs', 'runs/goal-handling', 'where the run folders go')
_OUT = flags.DEFINE_string('out', 'benchmarks/results/goal_handling.json', 'JSON file to write')


def measure(goal: str, success_ends: bool) -> dict:
    """Trains one variant, or goes on with it; the share of successes at each evaluation."""
    out = pathlib.Path(_RUNS.value, f'{_ENV.value}-{goal}-{success_ends}'.lower())
    asked = {
        'env': _ENV.value,
        'agent': _AGENT.value,
        'num_seeds': _SEEDS.value,
        'steps': _STEPS.value,
        'pretrain_steps': _PRETRAIN.value,
        'eval_every': -(-_STEPS.value // _EVALUATIONS.value),
        'settings': {'goal': goal, 'success_ends': success_ends, 'clone_seeds': 0},
    }
    run(asked, out=out, resume=out.exists())
    rows = read_jsonl(out / 'eval.jsonl')
    steps = sorted({row['step'] for row in rows})
    return {
        'goal': goal,
        'success_ends': success_ends,
        'success': {s: [r['eval/success'] for r in rows if r['step'] == s] for s in steps},
        'length': {s: [r['eval/length'] for r in rows if r['step'] == s] for s in steps},
        'behaviour': read_run(out)['data']['success_rate'],
    }


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    path = pathlib.Path(_OUT.value)
    done = json.loads(path.read_text())['results'] if path.exists() else []
    known = {(row['goal'], row['success_ends']) for row in done}
    for variant in itertools.product(('relabel', 'observe'), (True, False)):
        if variant not in known:
            done.append(measure(*variant))
            asked = {f.name: f.value for f in (_ENV, _AGENT, _SEEDS, _STEPS, _PRETRAIN)}
            path.write_text(json.dumps({'results': done, **asked, **machine()}, indent=2) + '\n')
    print(f'\n{_ENV.value}: share of episodes that reach the goal, each seed, by evaluation')
    for row in done:
        ends = 'ends the return' if row['success_ends'] else 'goes on'
        shares = '; '.join(f'{step}: {share}' for step, share in row['success'].items())
        print(f'  {row["goal"]:8} {ends:16} {shares}')


if __name__ == '__main__':
    app.run(main)
