"""Evaluations beside training against evaluations between it: wall-clock, and whether scores agree.

  python benchmarks/overlap.py                                           # the default task, short
  python benchmarks/overlap.py --env=hopper-medium --num_seeds=8 --steps=20000 --eval_every=2000

One short run is made twice, with `--overlap` and without. The share of the time after compilation
in which the device trains says how long it stood idle or acted. The scores must be equal to the
last digit: what is played is a snapshot, by the same program on the same device.
"""

import json
import pathlib
import tempfile
import time

from absl import app, flags, logging
from measure import Stopwatch, machine

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.run import run

_ENV = flags.DEFINE_string('env', 'pointmaze-umaze', 'task')
_SEEDS = flags.DEFINE_integer('num_seeds', 2, 'seeds')
_STEPS = flags.DEFINE_integer('steps', 1000, 'updates of the last phase')
_EVERY = flags.DEFINE_integer('eval_every', 250, 'updates between evaluations')
_EPISODES = flags.DEFINE_integer('eval_episodes', 10, 'episodes per evaluation and seed')
_DATA = flags.DEFINE_string('dataset_path', None, "data to use in place of the task's")
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')


def measure(overlap: bool) -> tuple[dict, list[dict]]:
    """Times of a run, and its evaluations without theirs."""
    asked = {flag.name: flag.value for flag in (_ENV, _SEEDS, _STEPS, _EVERY, _EPISODES, _DATA)}
    console = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, 'run')
        run(asked | {'pretrain_steps': 0}, out=out, overlap=overlap, console=console)
        rows = read_jsonl(out / 'eval.jsonl')
    total = time.monotonic() - console.began_training - console.parts['compilation']
    row = {
        'overlap': overlap,
        'seconds': total,
        'evaluations_s': console.parts['evaluations'],
        'training_share': console.parts['train'] / total,
    }
    return row, [{k: v for k, v in r.items() if not k.startswith('time/')} for r in rows]


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    (serial, theirs), (beside, ours) = measure(False), measure(True)
    print()
    for row in (serial, beside):
        print(
            f'{"beside training" if row["overlap"] else "between training":18}'
            f'{row["seconds"]:8.1f} s, of which the device trains {row["training_share"]:.0%}; '
            f'evaluations took {row["evaluations_s"]:.1f} s'
        )
    print(f'scores are equal: {ours == theirs}')
    if _OUT.value:
        report = {**machine(), 'env': _ENV.value, 'num_seeds': _SEEDS.value}
        report |= {'results': [serial, beside], 'scores_are_equal': ours == theirs}
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
