"""What the benchmarks share: cases, timers, peak memory, flags and result files."""

import dataclasses
import functools
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from dtql_jax.agents.base import Agent, State
from dtql_jax.agents.registry import AGENTS
from dtql_jax.cli.flags import define_whole
from dtql_jax.data.columns import one_row
from dtql_jax.rollout.actor import Actor
from dtql_jax.runs.forecast import matmul_rate
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Phase, Spec, Transition, UserError

# A script's child processes use the same accelerator. Read when jax's backend starts.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

# Observation and action sizes of tasks, as 'O/A'.
WALKER, ANTMAZE, PEN = '17/6', '29/8', '45/24'


def make_flags(blocks: int | None = None, block_seconds: float = 2.0) -> flags.FlagValues:
    """The flags that benchmarks share; those of timed blocks where `blocks` is given."""
    values = flags.FlagValues()
    flags.DEFINE_string('out', None, 'JSON file to write', values)
    if blocks is not None:
        define_whole('blocks', blocks, 'timed blocks of each contender', values)
        flags.DEFINE_float('block_seconds', block_seconds, 'seconds per block', flag_values=values)
    return values


class Report:
    """The results of a script, printed as they come and kept in the JSON file `out`, if any.

    `keep` continues the results that the file holds. `head` is what is known beforehand.

    Raises:
        UserError: the file to be continued was measured on another machine.
    """

    def __init__(self, out: str | None, keep: bool = False, **head: Any):
        self._path = pathlib.Path(out) if out else None
        self.content: dict[str, Any] = {}
        if keep and self._path and self._path.exists():
            self.content = json.loads(self._path.read_text())
        for name in ('device', 'processor'):
            there, here = self.content.get(name), machine()[name]
            if there not in (None, here):
                raise UserError(
                    f'`out`={out} was measured on another machine ({there}; this is {here}): name '
                    'another file, or remove it to measure all of it here'
                )
        self.content |= {**machine(), **head}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return self.content.setdefault('results', [])

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        self.rows.append(row)
        print(brief(row), flush=True)
        self.save()

    def put(self, name: str, value: Any) -> None:
        """Adds an entry beside the rows."""
        self.content[name] = value
        print(f'{name}: {brief(value)}', flush=True)
        self.save()

    def save(self) -> None:
        """Writes the file."""
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.content, indent=2) + '\n')


def brief(value: Any) -> str:
    """A result as JSON in one line, its floats to four digits."""
    rounded = json.loads(json.dumps(value), parse_float=lambda text: float(f'{float(text):.4g}'))
    return json.dumps(rounded)


@functools.cache
def machine() -> dict[str, str]:
    """The script, devices, processor and its speed, versions and date of a measurement."""
    return {
        'script': pathlib.Path(sys.argv[0]).name,
        'device': f'{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}',
        'processor': processor(),
        'vectors': vectors(),
        'products': f'{matmul_rate() / 1e9:.0f} GFLOP/s',
        'python': platform.python_version(),
        'jax': jax.__version__,
        'date': time.strftime('%Y-%m-%d'),
    }


def cpuinfo() -> str:
    """What Linux tells of the processors."""
    path = pathlib.Path('/proc/cpuinfo')
    return path.read_text() if path.exists() else ''


def vectors() -> str:
    """The widest vectors of the processor, as far as the system tells: '512 bits', ..."""
    widths = {'avx512f': '512 bits', 'avx2': '256 bits', 'asimd': '128 bits'}
    found = (width for flag, width in widths.items() if re.search(rf'\b{flag}\b', cpuinfo()))
    return next(found, 'unknown')


def processor() -> str:
    """The processor's name and cores, as far as the system tells."""
    name = re.search(r'^model name\s*: (.+)$', cpuinfo(), re.MULTILINE)
    return f'{name[1] if name else platform.machine()}, {os.cpu_count()} cores'


def sizes(dims: str) -> tuple[int, int]:
    """Observation and action sizes of 'O/A'."""
    obs_dim, action_dim = dims.split('/')
    return int(obs_dim), int(action_dim)


@functools.lru_cache(maxsize=1)
def synthetic(dims: str, transitions: int = 100_000) -> Transition:
    """Uniform transitions."""
    rng = np.random.default_rng(0)
    obs_dim, action_dim = sizes(dims)
    widths = (obs_dim, action_dim, None, None, obs_dim)
    shapes = [(transitions, w) if w else (transitions,) for w in widths]
    return Transition(*[rng.uniform(-1, 1, s).astype(np.float32) for s in shapes])


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: an agent at a size of task, batch, seeds and data, with its defaults.

    `settings` are pairs of name and value that differ from the defaults.
    """

    agent: str = 'dtql'
    dims: str = WALKER
    batch_size: int = 256
    seeds: int = 1
    transitions: int = 100_000
    settings: tuple[tuple[str, Any], ...] = ()

    def make(self) -> Agent:
        """The agent; every batch size among its settings is the case's."""
        cls = AGENTS[self.agent].agent
        config = cls.config_class(**batches_of(self.agent, self.batch_size), **dict(self.settings))
        return cls(Spec(*sizes(self.dims)), config)

    def engine(self) -> Engine:
        """The engine of all seeds on synthetic data."""
        lanes = [Lane(self.agent, seed) for seed in range(self.seeds)]
        agent, data = self.make(), synthetic(self.dims, self.transitions)
        zeros = {
            name: np.zeros((self.transitions, *x.shape[1:]), np.float32)
            for name, x in one_row(agent.spec, agent.columns).extra.items()
        }
        return Engine(agent, data._replace(extra=zeros), lanes)


def batches_of(agent: str, size: int) -> dict[str, int]:
    """The batch sizes among an agent's settings, all set to `size`."""
    fields = dataclasses.fields(AGENTS[agent].agent.config_class)
    return {field.name: size for field in fields if field.name.endswith('batch_size')}


def take_turns(timers: Iterable[Any], blocks: int) -> None:
    """Calls `block()` of all timers in turn, so that a machine that drifts favours none."""
    timers = list(timers)
    for _ in range(blocks):
        for timer in timers:
            timer.block()


class Timer:
    """Times blocks of `work(n)`, which does something `n` times and waits for the end.

    `rates` are the repetitions/s of each block of some `block_s` seconds. Two blocks that do not
    count warm up and find how many repetitions that is (`length`).
    """

    def __init__(self, work: Callable[[int], object], block_s: float):
        self._work, self.length = work, 2
        self.rates: list[float] = []
        take_turns([self], blocks=2)
        self.length = max(1, round(self.rates[-1] * block_s))
        self.rates.clear()

    def block(self) -> None:
        """Times a block."""
        began = time.perf_counter()
        self._work(self.length)
        self.rates.append(self.length / (time.perf_counter() - began))

    @property
    def rate(self) -> float:
        """Repetitions/s of the median block."""
        return float(np.median(self.rates))


class TrainingTimer:
    """Times updates of an engine's last phase or, with `all_phases`, of each.

    All seeds advance together. Compilation (`compile_s`) is apart.
    """

    def __init__(self, engine: Engine, block_s: float, all_phases: bool = False):
        self.engine = engine
        self.phases = [phase for phase in engine.agent.phases() if phase.steps]
        self.phases = self.phases if all_phases else self.phases[-1:]
        began = time.perf_counter()
        for phase in self.phases:
            engine.compile(phase)
        self.compile_s = time.perf_counter() - began
        self.state = engine.init()
        self.timers = {
            p.name: Timer(functools.partial(self._train, p), block_s) for p in self.phases
        }

    def block(self) -> None:
        """Times a block of each phase."""
        for timer in self.timers.values():
            timer.block()

    def rates(self) -> dict[str, float]:
        """Updates/s of the median block of each phase."""
        return {name: timer.rate for name, timer in self.timers.items()}

    def _train(self, phase: Phase, n: int) -> None:
        sums = self.engine.zeros(phase)
        self.state, *rest = self.engine.dispatch(phase, self.state, sums, n)
        jax.block_until_ready((self.state, rest))


def acting_timer(agent: Agent, states: State, batch: int, block_s: float) -> Timer:
    """Times calls of a policy in the evaluation's `Actor`: observations in, actions back.

    On a CPU an `Actor` works through a batch one observation after the other, on an accelerator in
    blocks.
    """
    actor = Actor(agent.precise(agent.behave), num_slots=batch)
    # A copy, since training may go on and donate its buffers.
    params = actor.to_device(jax.tree.map(jnp.copy, jax.vmap(agent.acting)(states)))
    shape = (batch, agent.spec.obs_dim)
    obs = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    zeros, index = np.zeros(batch, np.uint32), np.arange(batch)

    def act(n: int) -> None:
        for step in range(n):
            actor(params, zeros, zeros, index, zeros + step, obs)

    return Timer(act, block_s)


def in_child(arguments: Sequence[str], **environment: str) -> dict[str, Any]:
    """What `answer` prints in a fresh process of this script; `{'failed': line}` where it fails."""
    command = [sys.executable, sys.argv[0], *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {'failed': done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def answer(result: dict[str, Any]) -> None:
    """Prints what `in_child` returns to the process that started this one."""
    print(json.dumps(result))


def forget_peak() -> int:
    """Restarts the peak of the process's resident memory (Linux); the bytes resident now."""
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    return resident('VmRSS')


def resident(field: str) -> int:
    """Bytes of resident memory: 'VmRSS' now, 'VmHWM' at the peak (Linux)."""
    status = pathlib.Path('/proc/self/status').read_text()
    return 1024 * int(re.search(rf'^{field}:\s+(\d+) kB', status, re.MULTILINE)[1])
