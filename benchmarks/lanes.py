"""Many runs in one program, against as many single runs one after the other, and all at once.

  python benchmarks/lanes.py [--sizes=maze,cheetah --seeds=5 --alphas=0.5,1,5 --out=FILE]
  python benchmarks/lanes.py --sizes=maze --blocks=1 --block_seconds=0.2     # a quick look

The runs are DTQL's, every seed with every `alpha`, on synthetic data:
  together  one process, whose one program advances all runs (lanes)
  in turn   a process for each run, of which one works at a time
  at once   the same processes, all working at the same time

The three take turns in blocks and the median block counts: a machine that drifts favours none. A
ratio is that of two blocks of one turn, and its median counts. `start_s` is how long the processes
take to import and then to compile and initialise, from an empty cache of compiled programs; in
turn, every process after the first (`next`) finds the program in the cache. `total_s` is how long
`--updates` of every run take with that, and without data to read or evaluations.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import measure
import numpy as np
from absl import flags
from measure import WALKER, Case, Report, Timer

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, UserError

FLAGS = measure.make_flags(blocks=9, block_seconds=4.0)
SIZES = {
    'maze': Case(dims='4/2', settings=(('hidden', 128),)),
    'cheetah': Case(dims=WALKER),
}
flags.DEFINE_list('sizes', list(SIZES), f'sizes of task and network: {", ".join(SIZES)}', FLAGS)
define_whole('seeds', 5, 'seeds of each alpha', FLAGS)
flags.DEFINE_list('alphas', ['0.5', '1', '5'], 'values of alpha', FLAGS)
define_whole('updates', 100_000, 'updates of each run that `total_s` counts', FLAGS)
flags.DEFINE_string('child', None, 'used by the script itself', FLAGS)


class Process:
    """A process that trains `lanes` (pairs of seed and alpha) when it is asked to."""

    def __init__(self, size: str, lanes: Sequence[tuple[int, str]], cache: str):
        self.began = time.perf_counter()
        named = ','.join(f'{seed}:{alpha}' for seed, alpha in lanes)
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], f'--sizes={size}', f'--child={named}'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'JAX_COMPILATION_CACHE_DIR': cache},
        )

    def ask(self, updates: int) -> None:
        """Lets it make so many updates of each of its lanes."""
        assert self._process.stdin
        self._process.stdin.write(f'{updates}\n')
        self._process.stdin.flush()

    def wait(self) -> float:
        """Waits for its next answer; the moment at which it came."""
        assert self._process.stdout
        if not self._process.stdout.readline():
            raise UserError(f'a process ended (exit code {self._process.wait()}): see above')
        return time.perf_counter()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def started(
    size: str, groups: Sequence[Sequence[tuple[int, str]]], cache: str
) -> Iterator[tuple[list[Process], dict[str, float]]]:
    """Processes that start at once, one for each group of lanes, and the seconds of their start."""
    processes = [Process(size, lanes, cache) for lanes in groups]
    try:
        imported, ready = (max(process.wait() for process in processes) for _ in range(2))
        yield processes, {'import': imported - processes[0].began, 'compile': ready - imported}
    finally:
        for process in processes:
            process.end()


def serve(size: str, named: str) -> None:
    """What such a process does: answers when it has imported, is ready, and after each request."""
    print('imported', flush=True)
    lanes = []
    for lane in named.split(','):
        seed, alpha = lane.split(':')
        lanes.append(Lane(f'alpha={alpha}', int(seed), {'alpha': float(alpha)}))
    case = SIZES[size]
    engine = Engine(case.make(), measure.synthetic(case.dims), lanes)
    phase = engine.agent.phases()[-1]
    engine.compile(phase)
    state, sums = engine.init(), engine.zeros(phase)
    print('ready', flush=True)
    for line in sys.stdin:
        state, sums, _ = engine.dispatch(phase, state, sums, int(line))
        jax.block_until_ready(state)
        print('done', flush=True)


def in_turn(processes: Sequence[Process], updates: int) -> None:
    """Each process makes its updates when the one before has made its own."""
    for process in processes:
        process.ask(updates)
        process.wait()


def at_once(processes: Sequence[Process], updates: int) -> None:
    """All processes make their updates at the same time."""
    for process in processes:
        process.ask(updates)
    for process in processes:
        process.wait()


def rates_of(
    one: Sequence[Process], many: Sequence[Process], blocks: int, block_s: float
) -> dict[str, np.ndarray]:
    """Updates/s of each run, in each block of each contender."""
    timers = {
        'together': Timer(lambda n: in_turn(one, n), block_s),
        'in_turn': Timer(lambda n: in_turn(many, n), block_s),
        'at_once': Timer(lambda n: at_once(many, n), block_s),
    }
    measure.take_turns(timers.values(), blocks)
    return {name: np.array(timer.rates) for name, timer in timers.items()}


def measured(size: str, asked: flags.FlagValues) -> dict[str, Any]:
    """The rates, starts, totals and ratios at one size."""
    lanes = [(seed, alpha) for alpha in asked.alphas for seed in range(asked.seeds)]
    alone = [[lane] for lane in lanes]
    with tempfile.TemporaryDirectory() as above, contextlib.ExitStack() as stack:
        start_s: dict[str, Any] = {'in_turn': {}}
        for which in ('first', 'next'):
            with started(size, alone[:1], f'{above}/in_turn') as (_, start_s['in_turn'][which]):
                pass
        starting = {'together': [lanes], 'at_once': alone}
        processes = {}
        for name, groups in starting.items():
            found = stack.enter_context(started(size, groups, f'{above}/{name}'))
            processes[name], start_s[name] = found
        rates = rates_of(*processes.values(), asked.blocks, asked.block_seconds)
    total_s = totals({name: float(np.median(r)) for name, r in rates.items()}, start_s, asked)
    count, others = len(lanes), ('in_turn', 'at_once')
    ratios = {name: rates['together'] / rates[name] for name in others}
    return {
        'size': size,
        'dims': SIZES[size].dims,
        'seeds': asked.seeds,
        'alphas': [float(alpha) for alpha in asked.alphas],
        'seed_updates_per_s': {name: count * float(np.median(r)) for name, r in rates.items()},
        'range': {name: [count * min(r), count * max(r)] for name, r in rates.items()},
        'faster_than': {name: float(np.median(ratio)) for name, ratio in ratios.items()},
        'faster_than_range': {name: [min(r), max(r)] for name, r in ratios.items()},
        'start_s': start_s,
        'updates': asked.updates,
        'total_s': total_s,
        'total_faster_than': {name: total_s[name] / total_s['together'] for name in others},
    }


def totals(
    rates: dict[str, float], start_s: dict[str, Any], asked: flags.FlagValues
) -> dict[str, float]:
    """Seconds to `updates` of every run, from the start of the first process."""
    others = asked.seeds * len(asked.alphas) - 1
    starts = {name: sum(start_s[name].values()) for name in ('together', 'at_once')}
    first, following = (sum(start_s['in_turn'][which].values()) for which in ('first', 'next'))
    starts['in_turn'] = first + others * following
    return {name: starts[name] + asked.updates / rate for name, rate in rates.items()}


def main(asked: flags.FlagValues) -> None:
    for size in asked.sizes:
        if size not in SIZES:
            raise UserError(f'--sizes={size}: choose among {", ".join(SIZES)}')
    if asked.child:
        serve(asked.sizes[0], asked.child)
        return
    report = Report(asked.out)
    for size in asked.sizes:
        report.add(measured(size, asked))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
