"""The lock on a run folder: one process at a time trains in it."""

import contextlib
import fcntl
import functools
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from dtql_jax.runs.config_file import CONFIG
from dtql_jax.types import UserError, outside, why

LOCK = '.lock'  # its text is for people; the lock is the kernel's, which ends with the process


class InUse(UserError):
    """Another process holds a lock."""


@contextlib.contextmanager
def hold(run_dir: pathlib.Path, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Holds the lock of a run folder inside the block; the file stays.

    Args:
        run_dir: the run folder.
        say: called with a line where the file system has no locks.

    Yields:
        A check that raises UserError where the folder or its lock is no longer this process's.

    Raises:
        InUse: another process holds the lock.
        UserError: the folder cannot be written.
    """
    with take(run_dir / LOCK, run_dir, say) as file:
        yield functools.partial(_check, run_dir, os.fstat(file.fileno()))


@contextlib.contextmanager
def take(path: pathlib.Path, folder: pathlib.Path, say: Callable[[str], None]) -> Iterator[TextIO]:
    """Holds the lock of the file `path` inside the block, for a process that works in `folder`.

    Raises:
        InUse: another process holds the lock.
        UserError: the file cannot be written.
    """
    cure = 'make room or give permission, or choose another disk'
    with outside(f'{path.parent} cannot be written', cure):
        file = path.open('a+', errors='replace')
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise InUse(
                f'{folder} is in use by {holder}: wait for its end or stop it, or choose another '
                'folder with `out`'
            ) from None
        except OSError as error:  # some network file systems
            say(f'{folder} cannot be locked ({why(error)}): let no other process train in it')
        text = f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%F %T")}'
        with outside(f'{path} cannot be written', cure):
            file.truncate(0)
            print(text, file=file, flush=True)
        yield file


def _check(run_dir: pathlib.Path, ours: os.stat_result) -> None:
    """Raises UserError where the folder lost its lock or its `config.json`."""
    for name in (LOCK, CONFIG):
        try:
            found = (run_dir / name).stat()
            whole = name != LOCK or os.path.samestat(ours, found)
        except OSError:
            whole = False
        if not whole:
            raise UserError(
                f'{run_dir / name} was removed, moved or replaced while the run was under way, so '
                'nothing more is saved: put the folder back as it was, and continue with `resume` '
                'from its last checkpoint'
            )
