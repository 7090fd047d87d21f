"""What the first process of a test session makes, and the others copy or read."""

import fcntl
import os
import shutil


def shared_folder(base):
    """The folder of all processes of a session: pytest's own `base`, or that above a worker's."""
    return base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base


def made_once(folder, make):
    """The folder, filled by `make(folder)` in the process that comes first; others wait for it."""
    done = folder.with_name(f'{folder.name}-done')
    with open(folder.with_name(f'{folder.name}-lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
