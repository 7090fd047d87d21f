"""The types that every module shares.

The simulators' worker processes load this module, so it imports neither jax nor other modules.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax

Params = Any
Metrics = dict[str, Any]  # scalars, or `Rare`


class UserError(ValueError):
    """A mistake that the user can correct.

    The message is one line that names the mistake and the cure. Names of arguments and settings
    stand in backticks; the command line prints them as flags.
    """


class Stopped(Exception):
    """Work was stopped on request. It can be continued or repeated later."""


def why(error: BaseException) -> str:
    """The reason of an error in one line: what the system says of a file, or type and message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f' ({error.filename})' if error.filename is not None else '')
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


@contextlib.contextmanager
def outside(what: str, cure: str) -> Iterator[None]:
    """Turns any error of code that is not ours into a UserError: what failed, why, and the cure.

    Wrap it around one call into a library, a file system or a user's code, and nothing else. A
    mistake of this package inside would be taken for the user's.

    Args:
        what: the thing that failed, such as `runs/a/config.json cannot be read`.
        cure: what the user can do.

    Raises:
        UserError: anything was raised inside but UserError and Stopped, which pass.
    """
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception as error:
        raise UserError(f'{what}: {why(error)}; {cure}') from error


class Rare(NamedTuple):
    """A metric that only some updates have, such as the loss of a delayed update.

    An update with the metric reports its value and `count` 1, an update without it 0 and 0. The log
    sums both over its window of updates and shows `total / count`, or nothing if `count` is 0.
    """

    total: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides the method of tuples


class Transition(NamedTuple):
    """Transitions as float32 arrays: the whole dataset `[N, ...]` or one batch `[B, ...]`.

    `mask` is 0 only where the return ends; a time-out keeps 1. A bootstrapped value is therefore
    `reward + discount * mask * V(next_obs)`. `extra` holds the columns of `Agent.columns`.
    """

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    reward: jax.Array  # [N]
    mask: jax.Array  # [N]
    next_obs: jax.Array  # [N, O]
    extra: Mapping[str, jax.Array] = {}  # each [N, ...]


@dataclasses.dataclass(frozen=True)
class Spec:
    """The sizes of observations and actions, and the action box `[-max_action, max_action]^A`."""

    obs_dim: int
    action_dim: int
    max_action: float = 1.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of training: `steps` updates on batches of `batch_size`.

    `state` is an `agents.base.State`, which this module cannot name: it imports no jax.

    Attributes:
        name: the name in logs and tables.
        update: `update(state, batch) -> (state, metrics)`.
        steps: the number of updates.
        batch_size: the number of transitions per update.
        evaluate: whether policies are evaluated during the phase.
        enter: `enter(state) -> state` is applied before the first update, for instance to start a
            network from the weights of another. A run that resumes at this update applies it again,
            so applying it twice must give the same as applying it once.
    """

    name: str
    update: Callable[[Any, Transition], tuple[Any, Metrics]]
    steps: int
    batch_size: int
    evaluate: bool = True
    enter: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Lane:
    """One of the training runs that a program trains side by side.

    Attributes:
        variant: the label in tables.
        seed: the seed of its random numbers.
        hparams: float settings that differ from the agent's `Config`.
    """

    variant: str
    seed: int
    hparams: Mapping[str, float] = dataclasses.field(default_factory=dict)
