"""Children: processes that are forked from one that has imported everything, and are judged.

A child has the imports of its parent, and so takes a tenth of a second to start. The parent never
starts a jax backend and has no threads, without which a fork is safe.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping

LIMIT_S = 60.0  # for a child that takes a few seconds


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; minus the number of the signal that ended it; None where it was killed
            at its time limit.
        out: its standard output.
        err: its standard error.
        seconds: its life.
    """

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def verdict(self) -> str:
        """`done`, `refused` (exit code 2 and one line), `hang`, `traceback`, or `exit N`."""
        if self.code is None:
            return 'hang'
        if 'Traceback (most recent call last)' in self.err + self.out:
            return 'traceback'
        if self.code == 0:
            return 'done'
        if self.code == 2 and len(self.errors) == 1:
            return 'refused'
        return f'exit {self.code}'

    @property
    def errors(self) -> list[str]:
        """The lines on standard error that are no warnings."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return [line for line in lines if not line.lower().startswith('warning')]

    @property
    def warnings(self) -> list[str]:
        """The lines that begin with 'warning'."""
        lines = (self.out + self.err).splitlines()
        return [line for line in lines if line.lower().startswith('warning')]

    @property
    def last(self) -> str:
        """The last line that it said."""
        lines = (self.errors or self.out.splitlines() or [''])[-1:]
        return lines[0].strip()


class Child:
    """A forked process with a group of its own, whose output goes to files.

    Args:
        work: what it does; the result is its exit code.
        log: the path of its output, without the suffixes `.out` and `.err`.
        folder: its working directory.
        variables: changes of its environment.
    """

    def __init__(
        self,
        work: Callable[[], int | None],
        log: pathlib.Path,
        folder: pathlib.Path | None = None,
        variables: Mapping[str, str] | None = None,
    ):
        self.log, self.began, self._code = log, time.monotonic(), None
        self._status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of forks beside threads, which there are none of
            self.pid = os.fork()
        if not self.pid:
            _become(work, log, folder, variables or {})

    def over(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
                self.ended_at = time.monotonic()
        return self._status is not None

    def send(self, number: int) -> None:
        """Sends a signal to it alone."""
        if not self.over():
            os.kill(self.pid, number)

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Waits for its end, and kills its group at the time limit."""
        end, hung = time.monotonic() + limit_s, False
        while not self.over():
            if time.monotonic() > end:
                hung = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                os.kill(self.pid, signal.SIGKILL)
                self._status = os.waitpid(self.pid, 0)[1]
                self.ended_at = time.monotonic()
                break
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # workers that it left behind
        out, err = (
            self.log.with_name(f'{self.log.name}.{stream}').read_text(errors='replace')
            for stream in ('out', 'err')
        )
        code = None if hung else os.waitstatus_to_exitcode(self._status or 0)
        return Ended(code, out, err, self.ended_at - self.began)


def _become(
    work: Callable[[], int | None],
    log: pathlib.Path,
    folder: pathlib.Path | None,
    variables: Mapping[str, str],
) -> None:
    """Turns this process into the child, which never returns from here."""
    code = 1
    try:
        os.setsid()
        for number in (1, 2):
            suffix = {1: 'out', 2: 'err'}[number]
            path = log.with_name(f'{log.name}.{suffix}')
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(variables)
        if folder is not None:
            os.chdir(folder)
        code = work() or 0
        _join_threads()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _join_threads() -> None:
    """Does what an interpreter does at its end, so that a thread that hangs hangs the child."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
