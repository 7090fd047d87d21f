"""The vocabulary that every module shares.

This module imports nothing of the package and no jax: the simulators' worker processes load it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax

Params = Any
Metrics = dict[str, Any]  # scalars, or `Rare`


class UserError(ValueError):
    """A mistake that the user can mend.

    The text is one line that names the thing and the cure. It puts the names of arguments and
    settings in backticks, which the command line replaces by its flags.
    """


class Stopped(Exception):
    """Work was asked to stop. It can be continued or repeated later."""


class Rare(NamedTuple):
    """A metric that only some updates make, such as the loss of a delayed update.

    One update reports `total` and `count` 1, or 0 and 0 where it made none. Both are summed over a
    window of updates, and its row holds `total / count`, or nothing where `count` is 0.
    """

    total: jax.Array
    count: jax.Array


class Transition(NamedTuple):
    """Transitions as float32 arrays: the whole dataset `[N, ...]` or one batch `[B, ...]`.

    `mask` is 0 only where the return truly ends (a time-out keeps 1), so that a bootstrapped value
    is `reward + discount * mask * V(next_obs)`. `extra` holds the further columns that an agent
    asks for with `Agent.columns`.
    """

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    reward: jax.Array  # [N]
    mask: jax.Array  # [N]
    next_obs: jax.Array  # [N, O]
    extra: Mapping[str, jax.Array] = {}  # each [N, ...]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a task tells an agent: the sizes, and the action box `[-max_action, max_action]^A`."""

    obs_dim: int
    action_dim: int
    max_action: float = 1.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """`steps` updates by `update(state, batch) -> (state, metrics)` on batches of `batch_size`.

    `state` is an `agents.base.State`, which this module cannot name: it imports no jax.
    Policies are evaluated in a phase only where `evaluate` holds. `enter(state) -> state` is
    applied before the phase's first update: how a network starts from another's weights. It must
    be idempotent, since a run that is resumed at this very step applies it again.
    """

    name: str
    update: Callable[[Any, Transition], tuple[Any, Metrics]]
    steps: int
    batch_size: int
    evaluate: bool = True
    enter: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Lane:
    """One training run of a batch: its label in tables, its seed, hyper-parameters of its own."""

    variant: str
    seed: int
    hparams: Mapping[str, float] = dataclasses.field(default_factory=dict)
