"""The vocabulary that every module shares. Imports jax and nothing of the package."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

Params = Any
Metrics = dict[str, jax.Array]


class UserError(ValueError):
    """A mistake that the user can mend. Its text is one line that names the thing and the cure."""


class Transition(NamedTuple):
    """Transitions as float32 arrays: the whole dataset `[N, ...]` or one batch `[B, ...]`.

    `mask` is 0 only where the return truly ends (a time-out keeps 1), so that a bootstrapped value
    is `reward + discount * mask * V(next_obs)`.
    """

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    reward: jax.Array  # [N]
    mask: jax.Array  # [N]
    next_obs: jax.Array  # [N, O]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a task tells an agent: the sizes, and the action box `[-max_action, max_action]^A`."""

    obs_dim: int
    action_dim: int
    max_action: float = 1.0


class State(struct.PyTreeNode):
    """All the data that training changes; one `vmap` adds the seed axis to every leaf.

    `hparams` are the float hyper-parameters: data, not constants, so that lanes of one compiled
    program may differ in them. `key` never changes: the key of a step is `fold_in(key, step)`,
    so a run resumes exactly. `step` counts every update and does not restart between phases.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    opt: dict[str, Any]
    hparams: dict[str, jax.Array]
    key: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True)
class Phase:
    """`steps` updates by `update(state, batch) -> (state, metrics)` on batches of `batch_size`.

    Policies are evaluated in a phase only where `evaluate` holds. `enter(state) -> state` is
    applied before the phase's first update: how a network starts from another's weights. It must
    be idempotent, since a run that is resumed at this very step applies it again.
    """

    name: str
    update: Callable[[State, Transition], tuple[State, Metrics]]
    steps: int
    batch_size: int
    evaluate: bool = True
    enter: Callable[[State], State] | None = None
