"""The types that every module shares.

The simulators' worker processes load this module, so it imports neither jax nor other modules.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import os
import pathlib
import re
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
        text = str(error.strerror) + (f' ({error.filename})' if error.filename is not None else '')
        return ' '.join(text.split())
    text = ' '.join(str(error).split())
    if isinstance(error, UserError):
        return text
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
    except (Exception, SystemExit) as error:  # nobody else's code may end the process
        raise UserError(f'{what}: {why(error)}; {cure}') from error


def needed(what: str, package: str, module: str | None = None) -> Any:
    """Imports a package that only some uses need, or one of its modules.

    Args:
        what: what needs it, such as `the launcher ray`.
        package: the package, as pip has it.
        module: the module to import; that of the package's name without.

    Raises:
        UserError: it is not installed, or broken.
    """
    try:
        return importlib.import_module(module or package)
    except Exception as error:  # of any kind: packages that do not fit together
        raise UserError(
            f"{what} needs the package {package} ({why(error)}): pip install '{package}'"
        ) from error


# errno -> what the user can do
CURES = {
    errno.ENOSPC: 'free space on that disk, or write to another one',
    errno.EDQUOT: 'free space within your quota, or write to another disk',
    errno.EACCES: 'change its permissions, or name another path',
    errno.EPERM: 'change its permissions, or name another path',
    errno.EROFS: 'name a path on a file system that can be written',
    errno.EMFILE: 'raise the limit of open files: ulimit -n 65536',
    errno.ENFILE: 'close other programs: the system has no more open files',
    errno.EISDIR: 'it is a folder: name a file',
    errno.ENOTDIR: 'a file stands where a folder should be: name another path',
    errno.ENAMETOOLONG: 'shorten the name',
    errno.ELOOP: 'its links lead in a circle: name another path',
    errno.ENOENT: 'check the path',
    errno.EAGAIN: 'raise the limit of processes and threads: ulimit -u 65536',
    errno.ENOMEM: 'free memory, or ask for fewer processes',
    errno.ESTALE: 'its file system went away: connect it again',
    errno.EIO: 'the disk fails: use another one',
}
NO_MEMORY = (
    'the {} is full ({}): ask for fewer seeds (`num_seeds`), a smaller `batch_size`, or '
    'fewer data, or close other programs'
)


def of_the_machine(error: BaseException) -> str | None:
    """An error that the machine is to blame for, in one line with a cure; None for any other.

    Those are all errors of the file system and the system's limits, and a lack of memory, here or
    on the device. What remains is a mistake in a program.
    """
    text = why(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY.format("computer's memory", text)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # which has no path
        return f'the working folder is gone ({text}): change to another one'
    if isinstance(error, OSError):
        return f'{text}: {CURES.get(error.errno or 0, "mend that, and repeat the command")}'
    if type(error).__name__ in ('JaxRuntimeError', 'XlaRuntimeError') and re.search(
        'RESOURCE_EXHAUSTED|out of memory', text, re.IGNORECASE
    ):
        return NO_MEMORY.format("device's memory", text[:200])
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return f'{text}: {CURES[errno.EAGAIN]}'
    return None


@contextlib.contextmanager
def machine_told() -> Iterator[None]:
    """Turns the errors that the machine is to blame for into a UserError; any other passes.

    So does that of a reader of the output who has gone: nobody is left to be told.
    """
    try:
        yield
    except Exception as error:
        text = None if isinstance(error, BrokenPipeError) else of_the_machine(error)
        if text is None:
            raise
        raise UserError(text) from error


NO_TEXT = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')  # control characters, bytes not in UTF-8


def check_text(name: str, text: str) -> None:
    """Raises UserError where the text that a user gave as the argument `name` is surely a slip.

    It is empty, has blanks at an end, or has characters that no name should have.
    """
    given = f'`{name}`={text!r}'
    if not text:
        raise UserError(f'{given} is empty: give a value, or leave it out')
    if NO_TEXT.search(text):
        raise UserError(f'{given} has a control character or a byte that is no text: remove it')
    if text != text.strip():
        raise UserError(f'{given} has blanks at an end: remove them')


def user_path(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """The path that a user gave as the argument `name`, with `~` replaced by the home folder.

    Raises:
        UserError: it is no path, there is no such home folder, or the system refuses to look there.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f'`{name}`={path!r}: not a path')
    text = str(path)
    check_text(name, text)
    try:
        found = pathlib.Path(text).expanduser()
    except RuntimeError:
        raise UserError(
            f'`{name}`={text!r}: the home folder is unknown: write the whole path, or set HOME'
        ) from None
    try:
        os.stat(found)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f'`{name}`={text!r}: {of_the_machine(error)}') from error
    return found


def lasting_path(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    """`user_path` in full: a user's simulator or agent may change the working folder."""
    return user_path(name, path).absolute()


class Rare(NamedTuple):
    """A metric that only some updates have, such as the loss of a delayed update.

    An update with the metric reports its value and `count` 1, an update without it 0 and 0. The log
    sums both over its window of updates and shows `total / count`, or nothing if `count` is 0.
    """

    total: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides the method of tuples


class Transition(NamedTuple):
    """Transitions as float32 arrays: the whole dataset `[N, ...]` or one batch `[B, ...]`.

    `mask` is 0 only where the return ends; a time-out keeps 1, and `data.chunks` puts its powers of
    the discount there. A bootstrapped value is therefore `reward + discount * mask * V(next_obs)`.
    `extra` holds the columns of `Agent.columns`.
    """

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    reward: jax.Array  # [N]
    mask: jax.Array  # [N]
    next_obs: jax.Array  # [N, O]
    extra: Mapping[str, jax.Array] = {}  # each [N, ...]


@dataclasses.dataclass(frozen=True)
class Spec:
    """The sizes of observations and actions, and the action box `[-max_action, max_action]^A`.

    `obs_mean` to `action_high` lead from the user's units to the agent's, see `Agent.behave`. They
    are empty where the two are the same.

    With `horizon_length` above 1 an action of the agent is a chunk: so many actions of the
    simulator, one after the other in one array, which are played in a row.
    """

    obs_dim: int
    action_dim: int
    max_action: float = 1.0
    obs_mean: tuple[float, ...] = ()  # [O], what is subtracted from an observation
    obs_std: tuple[float, ...] = ()  # [O], what it is divided by then
    action_low: tuple[float, ...] = ()  # [A], the action that the agent calls -max_action
    action_high: tuple[float, ...] = ()  # [A], the one that it calls max_action
    horizon_length: int = 1  # see `dtql_jax.data.chunks`

    def __post_init__(self) -> None:
        for name in ('obs_mean', 'obs_std', 'action_low', 'action_high'):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a file has lists

    @property
    def box(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The lowest and the highest action `[A]`, in the user's units."""
        bound = (self.max_action,) * self.action_dim
        return self.action_low or tuple(-x for x in bound), self.action_high or bound


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
        online: whether each update follows a step in the environment, and learns from it too.
    """

    name: str
    update: Callable[[Any, Transition], tuple[Any, Metrics]]
    steps: int
    batch_size: int
    evaluate: bool = True
    enter: Callable[[Any], Any] | None = None
    online: bool = False


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
