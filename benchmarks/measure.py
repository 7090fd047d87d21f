"""What the benchmarks share: timers of training, acting and runs, synthetic data, the machine."""

import os
import pathlib
import platform
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.agents.base import Agent
from dtql_jax.agents.base import State
from dtql_jax.report.console import Console
from dtql_jax.rollout.actor import Actor
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Phase, Transition

# Observation and action sizes of tasks, as 'O/A'.
WALKER, ANTMAZE, PEN = '17/6', '29/8', '45/24'


class TrainingTimer:
    """A compiled and warm agent; each `block` times some updates of its last phase, or of all.

    `rates` are the updates/s of all seeds together, by phase, one entry per block. `compile_s` is
    apart from them, and so are the first dispatches, which are not like the others.
    """

    def __init__(
        self,
        agent: Agent,
        data: Transition,
        lanes: Sequence[Lane],
        block_s: float,
        all_phases: bool = False,
    ):
        self.engine = Engine(agent, data, lanes)
        self.phases = [phase for phase in agent.phases() if phase.steps]
        self.phases = self.phases if all_phases else self.phases[-1:]
        began = time.perf_counter()
        for phase in self.phases:
            self.engine.compile(phase)
        self.compile_s = time.perf_counter() - began
        self.state = self.engine.init()
        self.updates = {phase.name: 2 for phase in self.phases}
        self.rates: dict[str, list[float]] = {phase.name: [] for phase in self.phases}
        for _ in range(2):
            self.block()
        for name, rates in self.rates.items():
            self.updates[name] = max(1, round(rates[-1] * block_s))
            rates.clear()

    def block(self) -> None:
        """Times `updates` of each phase."""
        for phase in self.phases:
            shapes = self.engine.metrics(phase)
            sums = self.engine.place({k: np.zeros(x.shape, x.dtype) for k, x in shapes.items()})
            n = self.updates[phase.name]
            jax.block_until_ready((self.state, sums))
            began = time.perf_counter()
            self.state, *rest = self.engine.dispatch(phase, self.state, sums, n)
            jax.block_until_ready((self.state, rest))
            self.rates[phase.name].append(n / (time.perf_counter() - began))

    def medians(self) -> dict[str, float]:
        """The median block of each phase."""
        return {name: float(np.median(rates)) for name, rates in self.rates.items()}


class ActingTimer:
    """A policy in the evaluation's `Actor`, with one observation or many; `block` times calls."""

    def __init__(self, agent: Agent, states: State, batch: int, calls: int = 50):
        rng = np.random.default_rng(0)
        self.actor = Actor(agent.precise(agent.act), num_slots=batch)
        # A copy, since training may go on and give its buffers away.
        params = jax.tree.map(jnp.copy, jax.vmap(agent.acting)(states))
        self.params = self.actor.place(params)
        self.obs = rng.uniform(-1, 1, (batch, agent.spec.obs_dim)).astype(np.float32)
        self.calls, self.seconds = calls, []
        self._call(0)  # compiles

    def block(self) -> None:
        """Times `calls` actions (or batches of them), each with a key of its own."""
        for step in range(self.calls):
            began = time.perf_counter()
            self._call(step)
            self.seconds.append(time.perf_counter() - began)

    def ms(self) -> float:
        """Milliseconds of the median call."""
        return 1e3 * float(np.median(self.seconds))

    def _call(self, step: int) -> None:
        zeros = np.zeros(len(self.obs), np.uint32)
        self.actor(self.params, zeros, zeros, np.arange(len(self.obs)), zeros + step, self.obs)


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


def sizes(dims: str) -> tuple[int, int]:
    """Observation and action sizes of 'O/A'."""
    obs_dim, action_dim = dims.split('/')
    return int(obs_dim), int(action_dim)


def synthetic(dims: str, transitions: int = 100_000) -> Transition:
    """Uniform transitions."""
    rng = np.random.default_rng(0)
    obs_dim, action_dim = sizes(dims)
    widths = (obs_dim, action_dim, None, None, obs_dim)
    shapes = [(transitions, w) if w else (transitions,) for w in widths]
    return Transition(*[rng.uniform(-1, 1, s).astype(np.float32) for s in shapes])


def machine() -> dict[str, str]:
    """Devices, processor, versions and date: where and when something was measured."""
    return {
        'device': f'{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}',
        'processor': processor(),
        'python': platform.python_version(),
        'jax': jax.__version__,
        'date': time.strftime('%Y-%m-%d'),
    }


def processor() -> str:
    """The processor's name and cores, as far as the system tells."""
    info = pathlib.Path('/proc/cpuinfo')
    names = [
        line.split(':')[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith('model name')
    ]
    return f'{names[0] if names else platform.machine()}, {os.cpu_count()} cores'
