"""Where the wall-clock of a whole run goes: data, compilation, training, evaluations.

  python benchmarks/time_to_result.py                                  # the default run
  python benchmarks/time_to_result.py --env=hopper-medium --steps=30000 --pretrain_steps=5000

Trains a real run into a temporary folder and prints what each part took.
"""

import json
import pathlib
import tempfile
import time

from absl import app, flags, logging
from measure import Stopwatch, machine

from dtql_jax.report.console import duration
from dtql_jax.runs.run import run

_ENV = flags.DEFINE_string('env', 'pointmaze-umaze', 'task')
_AGENT = flags.DEFINE_string('agent', 'dtql', 'algorithm')
_SEEDS = flags.DEFINE_integer('num_seeds', 2, 'seeds')
_STEPS = flags.DEFINE_integer('steps', None, 'updates of the last phase')
_PRETRAIN = flags.DEFINE_integer('pretrain_steps', None, 'updates of the pre-training')
_EVERY = flags.DEFINE_integer('eval_every', None, 'updates between evaluations')
_EPISODES = flags.DEFINE_integer('eval_episodes', None, 'episodes per evaluation and seed')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write, or to add this run to')


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    asked = {'env': _ENV.value, 'agent': _AGENT.value, 'num_seeds': _SEEDS.value}
    for flag in (_STEPS, _PRETRAIN, _EVERY, _EPISODES):
        if flag.value is not None:
            asked[flag.name] = flag.value
    console = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        result = run(asked, out=pathlib.Path(folder, 'run'), console=console)
        total = time.monotonic() - began
    parts = {'data and set-up': console.began_training - began, **console.parts}
    parts['logs, checkpoints, report'] = total - sum(parts.values())
    print()
    for name, seconds in parts.items():
        print(f'{name:28}{duration(seconds):>12}{100 * seconds / total:8.1f} %')
    print(f'{"together":28}{duration(total):>12}')
    if _OUT.value:
        out = pathlib.Path(_OUT.value)
        report = json.loads(out.read_text()) if out.exists() else {'results': []}
        row = {'asked': asked, 'parts_s': parts, 'total_s': total}
        row['scores'] = result.scores(_AGENT.value)
        report |= {**machine(), 'results': [*report['results'], row]}
        out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
