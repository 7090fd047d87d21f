"""The contents of a checkpoint: the arrays of a run, and the point that it has reached."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from dtql_jax.agents.base import Agent, State
from dtql_jax.training import checkpoint
from dtql_jax.training.compilation import own_numbers
from dtql_jax.training.engine import Engine
from dtql_jax.training.lanes import where_lane
from dtql_jax.types import Metrics, Params, Rare

CHECKPOINTS = 'checkpoints'  # folder in a run folder


class Progress(struct.PyTreeNode):
    """The arrays of a checkpoint. Every leaf has the lane axis `[S, ...]`."""

    state: State
    sums: dict[str, Metrics]  # by phase: sums of the metrics since the last row
    best: Params  # what `act` reads of each lane's best evaluation
    best_score: jax.Array
    best_step: jax.Array
    snapshot: Params  # what `act` reads at the last evaluation that began


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


@own_numbers()
def fresh_progress(
    engine: Engine, networks: Mapping[str, Any] | None = None, sums: bool = True
) -> Progress:
    """The progress of a run that has not begun.

    Args:
        engine: the run's agent and lanes.
        networks: the `params` and the `target` of all lanes `[S, ...]` of the networks that are not
            to be drawn anew. Optimisers, keys and the step are new in any case.
        sums: whether to have the sums of the metrics, which takes a trace of every phase.
    """
    state = engine.init()
    for field, trees in (networks or {}).items():
        copied = jax.tree.map(jnp.array, dict(trees))  # an array of NumPy cannot be donated
        state = state.replace(**{field: {**getattr(state, field), **copied}})
    lanes = len(engine.lanes)
    return engine.shard(
        Progress(
            state=state,
            sums={p.name: engine.zeros(p) for p in engine.agent.phases()} if sums else {},
            best=policies(engine.agent, state),
            best_score=jnp.full(lanes, -jnp.inf),
            best_step=jnp.zeros(lanes, jnp.int32),
            snapshot=policies(engine.agent, state),
        )
    )


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
    like = engine.with_sharding(jax.eval_shape(lambda: fresh_progress(engine, sums=trains)))
    as_found = None if trains else {'sums': _sums}
    progress, meta = checkpoint.restore(run_dir / CHECKPOINTS, like, say, as_found)
    return progress, Cursor(**meta)


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
