"""Training speed: updates per second of an agent on synthetic transitions, compile time apart.

  python benchmarks/training_speed.py                      # DTQL at 17/6/256, one seed
  python benchmarks/training_speed.py --dims=17/6/256,29/8/2048 --seeds=1,4

Each configuration is compiled and warmed up first; then blocks of updates of all configurations
take turns, so that a machine that drifts favours none, and the median block counts.
"""

import json
import pathlib
import time

import jax
import numpy as np
from absl import app, flags
from machine import machine

from dtql_jax.agents import AGENTS
from dtql_jax.engine import Engine, Lane
from dtql_jax.types import Spec, Transition

_AGENT = flags.DEFINE_string('agent', 'dtql', 'algorithm')
_DIMS = flags.DEFINE_list('dims', ['17/6/256'], 'observation/action/batch sizes')
_SEEDS = flags.DEFINE_list('seeds', ['1'], 'numbers of seeds trained at once')
_BLOCKS = flags.DEFINE_integer('blocks', 7, 'timed blocks per configuration')
_BLOCK_SECONDS = flags.DEFINE_float('block_seconds', 3.0, 'seconds per block')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')

TRANSITIONS = 100_000


class Case:
    """One configuration, compiled and warm; `block` times some updates of it."""

    def __init__(self, agent: str, dims: str, seeds: int):
        obs_dim, action_dim, batch_size = (int(n) for n in dims.split('/'))
        rng = np.random.default_rng(0)
        widths = (obs_dim, action_dim, None, None, obs_dim)
        shapes = [(TRANSITIONS, w) if w else (TRANSITIONS,) for w in widths]
        data = Transition(*[rng.uniform(-1, 1, s).astype(np.float32) for s in shapes])
        config = AGENTS[agent].config_class(batch_size=batch_size)
        agent = AGENTS[agent](Spec(obs_dim, action_dim), config)
        self.engine = Engine(agent, data, [Lane('lane', seed) for seed in range(seeds)])
        self.phase = agent.phases()[-1]
        began = time.perf_counter()
        self.engine.compile(self.phase)
        self.compile_s = time.perf_counter() - began
        self.dims, self.seeds, self.seconds = dims, seeds, []
        sums = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.engine.metrics(self.phase))
        self.carry = self.engine.init(), self.engine.place(sums)
        self.n = 2
        self.block()
        self.n = max(1, round(self.n * _BLOCK_SECONDS.value / self.seconds.pop()))

    def block(self) -> None:
        """Times `n` updates of all seeds."""
        jax.block_until_ready(self.carry)
        began = time.perf_counter()
        *self.carry, finite = self.engine.dispatch(self.phase, *self.carry, self.n)
        jax.block_until_ready((self.carry, finite))
        self.seconds.append(time.perf_counter() - began)

    def result(self) -> dict:
        """The figures of all blocks."""
        rates = sorted(self.n / s for s in self.seconds)
        return {
            'obs/action/batch': self.dims,
            'seeds': self.seeds,
            'updates_per_s': float(np.median(rates)),
            'seed_updates_per_s': self.seeds * float(np.median(rates)),
            'min': rates[0],
            'max': rates[-1],
            'compile_s': self.compile_s,
        }


def main(_: list[str]) -> None:
    cases = [Case(_AGENT.value, dims, int(seeds)) for dims in _DIMS.value for seeds in _SEEDS.value]
    for _ in range(_BLOCKS.value):
        for case in cases:
            case.block()
    report = {'agent': _AGENT.value, **machine(), 'results': [case.result() for case in cases]}
    for row in report['results']:
        print(
            f'{_AGENT.value} {row["obs/action/batch"]}, {row["seeds"]} seeds: '
            f'{row["updates_per_s"]:.1f} updates/s ({row["min"]:.1f} to {row["max"]:.1f}), '
            f'{row["seed_updates_per_s"]:.1f} seed-updates/s, compiled in {row["compile_s"]:.1f} s '
            f'on {report["device"]}'
        )
    if _OUT.value:
        pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
