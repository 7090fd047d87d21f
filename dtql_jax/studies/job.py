"""The process of one job: `python -m dtql_jax.studies.job STUDY_DIR JOB`.

It may be started any number of times. Its output goes to the job's log in the study's folder.

Exit codes: 0 done, now or before; 1 done, and no lane has a score; 2 failed, which one line
explains; 3 another process has the job; 130 and 143 stopped by SIGINT and by another signal.
"""

import contextlib
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from dtql_jax.studies.folder import Job, StudyPlan, lock_file, log_file, read_plan, run_dir
from dtql_jax.studies.launch import DRIVER_PIPE
from dtql_jax.studies.status import DONE, FAILED, STOPPED, read_state
from dtql_jax.types import UserError, of_the_machine, outside, why

CORES = 'DTQL_CORES'  # the processor cores that the job may use, such as 0,1
OK, NO_SCORE, MISTAKE, HELD = 0, 1, 2, 3
UNSCORED = 'no lane has a score'
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Signalled(KeyboardInterrupt):
    """A signal that came while no training was under way."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Starts a job or goes on with it; returns the exit code."""
    folder, name = sys.argv[1:] if argv is None else argv
    study_dir = pathlib.Path(folder).absolute()
    _listen()
    _pin_cores()
    watch_driver()
    # Imported here and not above: the cores must be chosen before any library makes its threads.
    from dtql_jax.runs.lock import InUse, take

    try:
        plan = read_plan(study_dir)
        job = plan.job(name)
        with take(lock_file(study_dir, name), study_dir / name, lambda text: None):
            state = read_state(study_dir, name)
            if state.state == DONE:
                print(f'{name} is done' + (f': {state.reason}' if state.reason else ''))
                return NO_SCORE if state.reason else OK
            with _logged(study_dir, name) as terminal:
                return _run(study_dir, plan, job, terminal)
    except InUse:
        print(f'{name} is under way in another process', file=sys.stderr)
        return HELD
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt as error:
        return 128 + getattr(error, 'number', signal.SIGINT)


def _run(study_dir: pathlib.Path, plan: StudyPlan, job: Job, terminal: TextIO) -> int:
    """Trains, and keeps the job's state; returns the exit code."""
    from dtql_jax.runs.lock import InUse
    from dtql_jax.runs.result import Interrupted
    from dtql_jax.studies.heartbeat import Heartbeat

    with Heartbeat(study_dir, job.name) as heartbeat:
        try:
            failed = _train(study_dir, plan, job, heartbeat)
            state, reason, code = DONE, UNSCORED if failed else '', NO_SCORE if failed else OK
        except Interrupted as error:
            reason = str(error).removeprefix('stopped, ')
            state, code = STOPPED, 128 + error.signal
        except KeyboardInterrupt as error:
            number = getattr(error, 'number', signal.SIGINT)
            state, reason, code = STOPPED, '', 128 + number
        except InUse as error:
            state, reason, code = STOPPED, str(error), HELD
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            reason = of_the_machine(error) or why(error)
            state, code = FAILED, MISTAKE
            print(f'error: {reason}', file=sys.stderr)
        heartbeat.end(state, reason)
    with contextlib.suppress(OSError):
        print(f'{job.name}: {state}' + (f': {reason}' if reason else ''), file=terminal)
    return code


def _train(study_dir: pathlib.Path, plan: StudyPlan, job: Job, heartbeat: Any) -> bool:
    """Trains the run of a job from where it is; returns whether no lane has a score."""
    from dtql_jax.runs.run import run
    from dtql_jax.studies.heartbeat import StateConsole
    from dtql_jax.studies.plan import import_modules

    os.environ.setdefault('WANDB_RUN_GROUP', study_dir.name)
    sys.path.append(plan.folder)
    import_modules(plan.study.get('modules', []))
    out = run_dir(study_dir, job.name)
    result = run(job.request, out=out, resume=out.exists(), console=StateConsole(heartbeat))
    assert result is not None  # which only a dry run is
    return result.failed


@contextlib.contextmanager
def _logged(study_dir: pathlib.Path, job: str) -> Iterator[TextIO]:
    """Within, all output goes to the job's log; yields what standard output was."""
    path = log_file(study_dir, job)
    with outside(f'{path} cannot be written', 'make room or give permission'):
        file = path.open('ab', buffering=0)
    with file, os.fdopen(os.dup(1), 'w') as terminal:
        print(f'{job}: its output goes to {path}', file=terminal, flush=True)
        sys.stdout.flush()
        before = os.dup(2)
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        print(f'--- {job}, process {os.getpid()}, {time.strftime("%F %T")}', flush=True)
        try:
            yield terminal
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            os.dup2(terminal.fileno(), 1)
            os.dup2(before, 2)
            os.close(before)


def _listen() -> None:
    """Turns the signals that stop a job into `Signalled`; training handles two of them itself."""

    def handle(number: int, _: Any) -> None:
        if number in (signal.SIGUSR1, signal.SIGUSR2):  # as schedulers announce an end
            signal.raise_signal(signal.SIGTERM)
        else:
            raise Signalled(number)

    for number in STOPS:
        signal.signal(number, handle)


def _pin_cores() -> None:
    """Keeps the process on the cores that its launcher chose."""
    cores = os.environ.get(CORES)
    if cores and hasattr(os, 'sched_setaffinity'):
        with contextlib.suppress(OSError, ValueError):
            os.sched_setaffinity(0, [int(core) for core in cores.split(',')])


def watch_driver() -> None:
    """Stops this process, as SIGTERM does, once the driver at the other end of stdin is gone."""
    if os.environ.pop(DRIVER_PIPE, None) != '1':
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name='driver', daemon=True).start()


if __name__ == '__main__':
    sys.exit(main())
