"""Where the errors of the outside world become one line with a cure. Bugs stay tracebacks."""

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper

import dtql_jax
from dtql_jax.types import NO_TEXT, UserError, of_the_machine, why

OURS = os.path.dirname(os.path.realpath(dtql_jax.__file__)) + os.sep


def one_line(
    work: Callable[[], int], argv: Sequence[str], say: Callable[[str], str] = lambda text: text
) -> int:
    """Calls `work` and returns its exit code.

    A mistake of the user, an error of the machine and one in a user's agent become one line on
    stderr and exit code 2. Any other exception passes.

    Args:
        work: the command.
        argv: its arguments, the program's name first.
        say: turns a message of the library into one of the command line.
    """
    open_streams()
    try:
        for argument in argv[1:]:
            if NO_TEXT.search(argument):
                raise UserError(
                    f'{argument!r} has a control character or a byte that is no text: remove it'
                )
        code = work()
        sys.stdout.flush()
        return code
    except UserError as error:
        return mistake(say(str(error)))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_has_gone():  # as in `dtql list | head`
            return 128 + signal.SIGPIPE
        text = of_the_machine(error) or of_the_user(error)
        if text is None:
            raise
        return mistake(say(text))
    finally:
        end_output()


def mistake(text: str) -> int:
    """Prints one line about a mistake; returns its exit code."""
    with contextlib.suppress(OSError):  # stderr may be full or closed
        print('error: ' + ' '.join(text.splitlines()), file=sys.stderr)
    return 2


def open_streams() -> None:
    """Makes the standard streams usable.

    One that is closed becomes the null device, before another file takes its number. What an output
    cannot encode is printed as an escape.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)  # for the worker processes
        os.close(number)
        sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
        sys.stdout = sys.stdout or open(os.devnull, 'w')  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, 'w')  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')


def reader_has_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):  # a stream without a number
        poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def end_output() -> None:
    """Writes what stdout still holds, or drops it, so that Python does not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def of_the_user(error: BaseException) -> str | None:
    """An error in a user's agent in one line, with file and line; None for one of this package.

    It is the user's where code of the agent's file is called last, not counting other libraries.
    """
    registry = sys.modules.get('dtql_jax.agents.registry')
    if registry is None:
        return None
    files = {registry.agent_file(found.agent) for found in registry.AGENTS.values()}
    last = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = os.path.abspath(frame.f_code.co_filename)
        if file in files:
            last = f'{file}, line {line}'
        elif os.path.realpath(file).startswith(OURS):
            last = None
    return None if last is None else f'{last}: {why(error)}: mend the agent'
