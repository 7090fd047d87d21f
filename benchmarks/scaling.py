"""How DTQL's cost grows with seeds, batch, dataset and devices; and the memory that seeds need.

  python benchmarks/scaling.py --out=benchmarks/results/scaling.json

- seeds, batch size, number of transitions: updates/s, one axis at a time from a common point;
- devices: one lane on each of N devices. On a CPU the devices are emulated, so nothing gets faster:
  what counts there is that the compiled program holds no communication between them;
- memory: what the compiler says that programs of two sizes need gives the bytes per seed, from
  which the largest number of seeds follows, before anything is trained. It is compared with the
  true peak, each in a process of its own: of the device where it tells, else of the process.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
from absl import app, flags
from measure import WALKER, TrainingTimer, machine, sizes, synthetic

from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Spec

_SEEDS = flags.DEFINE_list('seeds', ['1', '2', '4', '8', '16'], 'numbers of seeds')
_BATCHES = flags.DEFINE_list('batches', ['128', '256', '512', '1024', '2048'], 'batch sizes')
_ROWS = flags.DEFINE_list('transitions', ['100000', '1000000', '10000000'], 'dataset sizes')
_DEVICES = flags.DEFINE_list('devices', ['1', '2', '4', '8'], 'emulated devices, on a CPU')
_BLOCKS = flags.DEFINE_integer('blocks', 3, 'timed blocks')
_BLOCK_SECONDS = flags.DEFINE_float('block_seconds', 2.0, 'seconds per block')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')
_PART = flags.DEFINE_string('part', None, 'one part only: seeds, batch, data, devices or memory')
_CHILD = flags.DEFINE_string('child', None, 'used by the script itself')

COLLECTIVE = re.compile(r'\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)')


def agent(batch_size: int = 256) -> DTQL:
    return DTQL(Spec(*sizes(WALKER)), Config(batch_size=batch_size))


def lanes(seeds: int) -> list[Lane]:
    return [Lane('dtql', seed) for seed in range(seeds)]


def rates(cases: list[tuple[str, int]]) -> list[dict]:
    """A row for each `(axis, value)`; the cases of an axis take turns."""
    timers = []
    for axis, value in cases:
        at = {'seeds': 1, 'batch': 256, 'data': 100_000} | {axis: value}
        data = synthetic(WALKER, at['data'])
        timers.append(
            TrainingTimer(agent(at['batch']), data, lanes(at['seeds']), _BLOCK_SECONDS.value)
        )
    for _ in range(_BLOCKS.value):
        for timer in timers:
            timer.block()
    return [
        {
            'axis': axis,
            'value': value,
            'updates_per_s': timer.medians()['train'],
            'seed_updates_per_s': timer.medians()['train'] * len(timer.engine.lanes),
        }
        for (axis, value), timer in zip(cases, timers, strict=True)
    ]


def compiled_bytes(seeds: int) -> int:
    """What the compiler says that training so many seeds takes, the data included."""
    engine = Engine(agent(), synthetic(WALKER), lanes(seeds))
    memory = engine.compile(agent().phases()[-1]).memory_analysis()
    # The dispatch keeps a copy of the states to go back to; see Engine.advance.
    state = sum(x.nbytes for x in jax.tree.leaves(engine.init()))
    data = sum(x.nbytes for x in engine.data)
    temporary = memory.temp_size_in_bytes
    return data + 2 * state + temporary


def child(what: str, value: int, **environment: str) -> dict:
    """What a process of its own prints about `what`."""
    command = [sys.executable, __file__, f'--child={what}={value}']
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {'failed': done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def as_child(what: str, value: int) -> dict:
    """The other side of `child`."""
    if what == 'devices':
        engine = Engine(agent(), synthetic(WALKER), lanes(value))
        text = engine.compile(agent().phases()[-1]).as_text()
        return {'devices': len(engine.devices), 'collectives': len(COLLECTIVE.findall(text))}
    engine = Engine(agent(), synthetic(WALKER), lanes(value))
    phase, alive = agent().phases()[-1], np.ones(value, bool)
    engine.compile(phase)
    forget_peak()
    state = engine.init()
    sums = {k: np.zeros(x.shape, x.dtype) for k, x in engine.metrics(phase).items()}
    jax.block_until_ready(engine.advance(phase, state, engine.place(sums), 2, alive))
    return {'peak': peak()}


def forget_peak() -> None:
    """Lets the process's peak begin anew (Linux): that of compiling is another matter."""
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def peak() -> int:
    """The most bytes so far: of the device, or of this process where the device does not tell."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats['peak_bytes_in_use']
    status = pathlib.Path('/proc/self/status').read_text()
    return 1024 * int(re.search(r'VmHWM:\s+(\d+) kB', status).group(1))


def available() -> int:
    """Bytes that the device has, or this machine has free."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats['bytes_limit']
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def memory() -> dict:
    """Bytes per seed as predicted and as true, and the seeds that fit."""
    few, many = (int(n) for n in (_SEEDS.value[0], _SEEDS.value[-1]))
    predicted = {n: compiled_bytes(n) for n in (few, many)}
    per_seed = (predicted[many] - predicted[few]) / (many - few)
    true = {n: child('memory', n) for n in (few, many)}
    measured = (true[many]['peak'] - true[few]['peak']) / (many - few)
    return {
        'predicted_mb_per_seed': per_seed / 1e6,
        'measured_mb_per_seed': measured / 1e6,
        'available_gb': available() / 1e9,
        'seeds_that_fit': int((available() - predicted[few]) / per_seed) + few,
    }


def devices() -> list[dict]:
    """Communication in the program of one lane on each of N devices."""
    if jax.default_backend() != 'cpu':
        return [as_child('devices', len(jax.local_devices()))]
    flag = '--xla_force_host_platform_device_count='
    return [child('devices', int(n), XLA_FLAGS=flag + n) for n in _DEVICES.value]


def main(_: list[str]) -> None:
    if _CHILD.value:
        what, value = _CHILD.value.split('=')
        print(json.dumps(as_child(what, int(value))))
        return
    axes = {'seeds': _SEEDS.value, 'batch': _BATCHES.value, 'data': _ROWS.value}
    report = machine()
    if _OUT.value and pathlib.Path(_OUT.value).exists():
        report = json.loads(pathlib.Path(_OUT.value).read_text()) | report
    for part in [_PART.value] if _PART.value else [*axes, 'devices', 'memory']:
        if part in axes:
            report[part] = rates([(part, int(value)) for value in axes[part]])
        else:
            report[part] = devices() if part == 'devices' else memory()
        print(part, json.dumps(report[part], indent=2), flush=True)
        if _OUT.value:
            pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
