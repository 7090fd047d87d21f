"""The contents of a checkpoint: the arrays of a run, and the point that it has reached."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from dtql_jax.agents.base import Agent, State
from dtql_jax.training import buffer as buffers
from dtql_jax.training import checkpoint
from dtql_jax.training.compilation import own_numbers
from dtql_jax.training.engine import Engine
from dtql_jax.training.lanes import where_lane
from dtql_jax.types import Metrics, Params, Rare, Transition

CHECKPOINTS = 'checkpoints'  # folder in a run folder


class Progress(struct.PyTreeNode):
    """The arrays of a checkpoint. Every leaf has the lane axis `[S, ...]`."""

    state: State
    sums: dict[str, Metrics]  # by phase: sums of the metrics since the last row
    best: Params  # what `act` reads of each lane's best evaluation
    best_score: jax.Array
    best_step: jax.Array
    snapshot: Params  # what `act` reads at the last evaluation that began


class OnlineProgress(Progress):
    """The arrays of a run with a part in the environment.

    `buffer` holds what each lane adds to the data. A run that trains has room for all rows, a
    checkpoint holds those that there are; without any it is a `Progress`.
    """

    buffer: Transition


@dataclasses.dataclass
class Cursor:
    """The JSON part of a checkpoint: the point that the run has reached."""

    step: int = 0
    evaluated: int = 0  # step of the last evaluation whose rows are written
    playing: int = 0  # step of an evaluation that has begun and is not yet written, or 0
    counts: list[int] = dataclasses.field(default_factory=list)  # updates in `sums`, by lane
    diverged: dict[str, int] = dataclasses.field(default_factory=dict)  # lane -> updates made
    offsets: dict[str, int] = dataclasses.field(default_factory=dict)  # length of each log in bytes
    digests: dict[str, str] = dataclasses.field(default_factory=dict)  # SHA-256 of each log so far
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # what `config.json` says
    elapsed_s: float = 0.0
    exploring: dict[str, Any] = dataclasses.field(default_factory=dict)  # see `rollout.explorer`


@own_numbers()
def fresh_progress(
    engine: Engine, networks: Mapping[str, Any] | None = None, sums: bool = True
) -> Progress:
    """The progress of a run that has not begun.

    Args:
        engine: the run's agent and lanes.
        networks: the `params` and the `target` of all lanes `[S, ...]` of the networks that are not
            to be drawn anew. Optimisers, keys and the step are new in any case.
        sums: whether to have what only training needs: room for new rows, and the sums of the
            metrics, which take a trace of every phase.
    """
    state = engine.init()
    for field, trees in (networks or {}).items():
        copied = jax.tree.map(jnp.array, dict(trees))  # an array of NumPy cannot be donated
        state = state.replace(**{field: {**getattr(state, field), **copied}})
    lanes, phases = len(engine.lanes), engine.agent.all_phases() if sums else ()
    room = engine.agent.config.online_steps if sums else 0
    progress = Progress(
        state=state,
        sums={phase.name: engine.zeros(phase) for phase in phases},
        best=policies(engine.agent, state),
        best_score=jnp.full(lanes, -jnp.inf),
        best_step=jnp.zeros(lanes, jnp.int32),
        snapshot=policies(engine.agent, state),
    )
    if room:
        progress = with_rows(progress, buffers.empty(engine.data, lanes, room))
    return engine.shard(progress)


def with_rows(progress: Progress, rows: Transition | None) -> Progress:
    """The arrays of a run with other new rows, or with none."""
    parts = {field.name: getattr(progress, field.name) for field in dataclasses.fields(Progress)}
    return Progress(**parts) if rows is None else OnlineProgress(**parts, buffer=rows)


def at_rest(progress: Progress, rows: int) -> Progress:
    """The arrays of a run as its checkpoint has them, with `rows` new rows of each lane."""
    if not isinstance(progress, OnlineProgress):
        return progress
    return with_rows(progress, buffers.filled(progress.buffer, rows) if rows > 0 else None)


def restore_progress(
    engine: Engine, run_dir: pathlib.Path, say: Callable[[str], None], trains: bool = True
) -> tuple[Progress, Cursor]:
    """The newest undamaged checkpoint of a run folder.

    Args:
        engine: an engine of the run's agent and lanes.
        run_dir: the run folder.
        say: called with a line about each damaged checkpoint.
        trains: whether training goes on. Otherwise the metrics are those of the file, and no
            phase is traced to learn their names.

    Raises:
        UserError: the folder has no undamaged checkpoint.
    """
    whole = engine.with_sharding(jax.eval_shape(lambda: fresh_progress(engine, sums=trains)))

    def like(found: Mapping[str, Any]) -> Progress:
        rows, sums = found.get('buffer'), found.get('sums', {})
        if trains:  # one that was extended into the environment has no sums of that phase yet
            sums = {name: whole.sums[name] for name in sums}
        else:
            sums = checkpoint.on_host(_sums(sums))
        return with_rows(whole.replace(sums=sums), rows and checkpoint.on_host(Transition(**rows)))

    progress, meta = checkpoint.restore(run_dir / CHECKPOINTS, like, say)
    return _widened(engine, progress) if trains else progress, Cursor(**meta)


def _widened(engine: Engine, progress: Progress) -> Progress:
    """The arrays of a checkpoint with all that a run needs to train on."""
    sums = {phase.name: engine.zeros(phase) for phase in engine.agent.all_phases()}
    progress = progress.replace(sums={**sums, **progress.sums})
    if not (room := engine.agent.config.online_steps):
        return progress
    none = buffers.empty(engine.data, len(engine.lanes), 0)
    rows = buffers.refilled(getattr(progress, 'buffer', none), room)
    # A copy, since an array of NumPy cannot be donated.
    return with_rows(progress, engine.shard(jax.tree.map(jnp.array, rows)))


def _sums(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Metrics]:
    """The sums of the metrics by phase, of dicts as a checkpoint tells of them."""
    return {
        phase: {k: Rare(**v) if isinstance(v, Mapping) else v for k, v in metrics.items()}
        for phase, metrics in found.items()
    }


@own_numbers()
def policies(agent: Agent, state: State) -> Params:
    """A copy of what `act` reads, for all lanes: training donates the buffers of `state`."""
    return jax.tree.map(jnp.copy, jax.vmap(agent.acting)(state))


def keep_best(
    best: Params,
    best_score: jax.Array,
    best_step: jax.Array,
    snapshot: Params,
    score: jax.Array,
    step: jax.Array,
) -> tuple[Params, jax.Array, jax.Array]:
    """The policies, scores and steps of each lane's best evaluation so far; ties keep the first."""
    after, before = (snapshot, score, step), (best, best_score, best_step)
    return where_lane(score > best_score, after, before)


def means(sums: Metrics, lane: int, count: int) -> dict[str, float]:
    """A lane's metrics averaged over the updates that made them, of `count` updates in all.

    A `Rare` metric that none of the updates made is left out.
    """
    row = {}
    for name, total in sums.items():
        rare = isinstance(total, Rare)
        value, made = (total.total, float(total.count[lane])) if rare else (total, count)
        if made:
            row[name] = float(value[lane]) / made
    return row
