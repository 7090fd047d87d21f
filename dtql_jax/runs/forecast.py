"""The description of a run before it starts: what it will do, and its memory and time."""

import math
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.agents.base import Agent
from dtql_jax.data.memory import available
from dtql_jax.report.console import duration
from dtql_jax.runs.plan import Plan
from dtql_jax.training.compilation import own_numbers
from dtql_jax.training.engine import Engine
from dtql_jax.training.update import flops
from dtql_jax.types import UserError

# The share of the machine's matrix-product rate that training reaches.
USUAL_EFFICIENCY = 0.5


def evaluation_steps(agent: Agent) -> list[int]:
    """The updates after which a run evaluates, counted over all phases."""
    steps, begin = [], 0
    for phase in agent.all_phases():
        if phase.evaluate and phase.steps:
            every = agent.config.eval_every
            steps += [*range(begin + every, begin + phase.steps, every), begin + phase.steps]
        begin += phase.steps
    return steps


@own_numbers()
def describe(plan: Plan, engine: Engine, run_dir: pathlib.Path) -> str:
    """The plan of a run in words: lanes, devices, budget, evaluation, memory, time, folder."""
    config = plan.config
    seeds: dict[str, list[str]] = {}
    for lane in plan.lanes:
        seeds.setdefault(lane.variant, []).append(str(lane.seed))
    phases = [p for p in engine.agent.all_phases() if p.steps]
    budget = ', '.join(f'{p.name} {p.steps:,} x {p.batch_size}' for p in phases)
    devices = f'{len(engine.devices)} x {engine.devices[0].device_kind}'
    if unused := len(jax.local_devices()) - len(engine.devices):
        devices += (
            f' ({unused} idle: {len(plan.lanes)} lanes split evenly over {len(engine.devices)}; '
            'choose a multiple of the devices to use all)'
        )
    state = tree_bytes(engine.shapes)
    train_s, act_s = estimate_seconds(plan, engine)
    begin = {}
    if (origin := plan.origin) is not None:
        begin = {'start': f'the networks of {origin["run"]} at update {origin["step"]:,}'}
    chunks = {}
    if (h := engine.agent.spec.horizon_length) > 1:
        chunks = {'chunks': f'{len(engine.data.reward):,} windows of {h} steps, played in a row'}
    rows = {
        'lanes': '; '.join(f'{name} seeds {" ".join(s)}' for name, s in seeds.items()),
        'devices': devices,
        **begin,
        **chunks,
        'budget': f'{budget} (updates x batch)',
        'evaluation': f'every {config.eval_every:,} updates, {plan.eval_episodes} episodes a lane'
        if plan.eval_episodes
        else 'none' + ('' if plan.task.has_env else ': the task has no environment'),
        'memory': f'{tree_bytes(engine.data) / 2**20:,.0f} MiB data, '
        f'{2 * state / 2**20:,.0f} MiB states'
        + (f', {new_bytes(engine) / 2**20:,.0f} MiB new rows' if config.online_steps else ''),
        'time': f'roughly {duration(train_s)} of training, up to {duration(act_s)} of acting',
        'folder': str(run_dir),
    }
    return '\n'.join(['plan', *(f'  {name:<10} {text}' for name, text in rows.items())])


def check_memory(engine: Engine) -> None:
    """Raises UserError where the states of the lanes surely do not fit into memory.

    Each device holds them twice, as the updates begin from a copy, and room for the rows that its
    lanes add in the environment, and a batch at least.
    """
    devices, row = len(engine.devices), tree_bytes(engine.data) / len(engine.data.reward)
    batch = max(phase.batch_size for phase in engine.agent.phases()) * row
    size = (2 * tree_bytes(engine.shapes) + new_bytes(engine)) / devices + batch
    device = engine.devices[0]
    if device.platform == 'cpu':
        free, size = available(), size * devices
    else:
        stats = device.memory_stats() or {}
        free = stats.get('bytes_limit', math.inf) - stats.get('bytes_in_use', 0)
    if free is not None and size > free:
        raise UserError(
            f'the run needs {size / 1e9:,.1f} GB of memory and more, {max(0, free) / 1e9:,.1f} GB '
            'are free: ask for fewer seeds (`num_seeds`), a smaller network, a smaller batch'
            + (' or fewer `online_steps`' if engine.agent.config.online_steps else '')
        )


def new_bytes(engine: Engine) -> int:
    """The bytes of the rows that all lanes add in the environment."""
    row = tree_bytes(engine.data) // len(engine.data.reward)
    return len(engine.lanes) * engine.agent.config.online_steps * row


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What may change the bits of a run that is resumed, in one line; None where nothing does.

    Args:
        then: the run's `config.json`.
        now: the same as it would be written now.
    """

    def conditions(description: Mapping[str, Any]) -> dict[str, str]:
        kinds = sorted({re.sub(r'[_:]?\d+$', '', device) for device in description['devices']})
        kept = description['versions'] | description.get('compiler', {})
        return {**kept, 'devices': ' '.join(kinds)}

    before, after = conditions(then), conditions(now)
    changed = [
        f'{name} {before.get(name, "without")} then, {after.get(name, "without")} now'
        for name in before | after
        if before.get(name) != after.get(name)
    ]
    if not changed:
        return None
    return '; '.join(['its bits may differ from those of an undisturbed run', *changed])


def tree_bytes(tree: Any) -> int:
    """The bytes of all leaves. A typed key counts as its two words."""
    return sum(
        x.size * (8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)
        for x in jax.tree.leaves(tree)
    )


def estimate_seconds(plan: Plan, engine: Engine) -> tuple[float, float]:
    """`operations / rate`: rough seconds of training, and an upper bound on those of acting."""
    agent, state = engine.agent, engine.lane_shapes
    train = sum(phase.steps * engine.update(phase).flops for phase in agent.all_phases())
    acting = jax.eval_shape(agent.acting, state)
    obs = jax.ShapeDtypeStruct((agent.spec.obs_dim,), jnp.float32)
    steps = len(evaluation_steps(agent)) * plan.eval_episodes * (plan.task.horizon or 1000)
    steps += agent.config.online_steps
    traced = jax.make_jaxpr(agent.act)(acting, obs, state.key)
    act = steps / agent.spec.horizon_length * flops(traced.jaxpr)
    rate = matmul_rate() * USUAL_EFFICIENCY
    return len(plan.lanes) * train / rate / len(engine.devices), len(plan.lanes) * act / rate


def matmul_rate(n: int = 1024, repeats: int = 5) -> float:
    """The rate of float32 products of `[n, n]` matrices on the first device, in FLOP/s.

    It is the best of `repeats` measurements.
    """
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)
