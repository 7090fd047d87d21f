"""Where the wall-clock of a whole run goes: data, compilation, training, evaluations.

  python benchmarks/time_to_result.py                                  # the default run
  python benchmarks/time_to_result.py --env=hopper-medium --steps=30000 --pretrain_steps=5000

Trains a real run into a temporary folder and prints what each part took.
"""

import json
import pathlib
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from measure import machine

from dtql_jax.console import Console, duration
from dtql_jax.engine import Lane
from dtql_jax.runner import run
from dtql_jax.types import Phase

_ENV = flags.DEFINE_string('env', 'pointmaze-umaze', 'task')
_AGENT = flags.DEFINE_string('agent', 'dtql', 'algorithm')
_SEEDS = flags.DEFINE_integer('num_seeds', 2, 'seeds')
_STEPS = flags.DEFINE_integer('steps', None, 'updates of the last phase')
_PRETRAIN = flags.DEFINE_integer('pretrain_steps', None, 'updates of the pre-training')
_EVERY = flags.DEFINE_integer('eval_every', None, 'updates between evaluations')
_EPISODES = flags.DEFINE_integer('eval_episodes', None, 'episodes per evaluation and seed')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write, or to add this run to')


class Stopwatch(Console):
    """A console that adds up what a run tells of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, float] = {'compilation': 0.0, 'evaluations': 0.0}
        self.began_training: float | None = None
        self._step = 0

    def compiled(self, phase: Phase, seconds: float) -> None:
        if self.began_training is None:
            self.began_training = time.monotonic() - seconds
        self.parts['compilation'] += seconds
        super().compiled(phase, seconds)

    def progress(self, phase: Phase, step: int, total: int, rate: float) -> None:
        # Told after every dispatch, whose time this is.
        seconds = (step - self._step) / rate
        self.parts[phase.name] = self.parts.get(phase.name, 0.0) + seconds
        self._step = step
        super().progress(phase, step, total, rate)

    def evaluated(
        self, step: int, lanes: Sequence[Lane], scores: np.ndarray, seconds: float
    ) -> None:
        self.parts['evaluations'] += seconds
        super().evaluated(step, lanes, scores, seconds)


def main(_: list[str]) -> None:
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
