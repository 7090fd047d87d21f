"""What a checkpoint holds: the arrays of a run, and where it stands."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from dtql_jax.agents.base import Agent, State
from dtql_jax.training import checkpoint
from dtql_jax.training.engine import Engine
from dtql_jax.types import Metrics, Params

CHECKPOINTS = 'checkpoints'  # folder in a run folder


class Progress(struct.PyTreeNode):
    """The arrays of a checkpoint; every leaf has the lane axis `[S, ...]`."""

    state: State
    sums: dict[str, Metrics]  # by phase: sums of the metrics since the last row
    best: Params  # `acting` of each lane's best evaluation
    best_score: jax.Array
    best_step: jax.Array
    snapshot: Params  # `acting` at the last evaluation that began


@dataclasses.dataclass
class Cursor:
    """The JSON part of a checkpoint: where the run stands."""

    step: int = 0
    evaluated: int = 0  # step of the last evaluation whose rows are written
    playing: int = 0  # step of an evaluation that has begun and is not yet written
    counts: list[int] = dataclasses.field(default_factory=list)  # updates in `sums`, by lane
    diverged: dict[str, int] = dataclasses.field(default_factory=dict)  # lane -> updates made
    offsets: dict[str, int] = dataclasses.field(default_factory=dict)  # bytes of the logs
    elapsed_s: float = 0.0


def fresh_progress(engine: Engine) -> Progress:
    """The progress of a run that has not begun."""
    state = engine.init()
    lanes = len(engine.lanes)
    return engine.place(
        Progress(
            state=state,
            sums={
                phase.name: jax.tree.map(
                    lambda x: jnp.zeros(x.shape, x.dtype), engine.metrics(phase)
                )
                for phase in engine.agent.phases()
            },
            best=acting(engine.agent, state),
            best_score=jnp.full(lanes, -jnp.inf),
            best_step=jnp.zeros(lanes, jnp.int32),
            snapshot=acting(engine.agent, state),
        )
    )


def restore_progress(
    engine: Engine, run_dir: pathlib.Path, say: Callable[[str], None]
) -> tuple[Progress, Cursor]:
    """The newest good checkpoint of a run folder; `say` is told of damaged ones."""
    like = engine.placed(jax.eval_shape(lambda: fresh_progress(engine)))
    progress, meta = checkpoint.restore(run_dir / CHECKPOINTS, like, say)
    return progress, Cursor(**meta)


def acting(agent: Agent, state: State) -> Params:
    """What all lanes act by: a copy, since training goes on and gives its buffers away."""
    return jax.tree.map(jnp.copy, jax.vmap(agent.acting)(state))


def keep_best(
    best: Params,
    best_score: jax.Array,
    best_step: jax.Array,
    acting: Params,
    score: jax.Array,
    step: jax.Array,
) -> tuple[Params, jax.Array, jax.Array]:
    """The policies, scores and steps of each lane's best evaluation so far; ties keep the first."""
    better = score > best_score

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, acting, best), choose(score, best_score), choose(step, best_step)
