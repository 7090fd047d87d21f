"""Starts the jobs of a study on a SLURM cluster, as arrays of jobs that submitit submits.

A job that meets its time limit, or that the cluster takes back, saves a checkpoint and goes to the
queue again. `state/slurm.json` says under which number each job waits there.
"""

import contextlib
import io
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dtql_jax.studies.folder import read_json, write_whole
from dtql_jax.studies.launch import Launch, LaunchOptions, StudyStopped
from dtql_jax.studies.slurm_job import SlurmJob
from dtql_jax.studies.status import read_status
from dtql_jax.studies.tables import summary
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import UserError, needed, outside

ARRAY = 1000  # SLURM takes no longer arrays, unless it is told so
ANSWER_S = 60.0  # a controller that is there answers within seconds
LOOK_S = 10.0
PATIENCE = 30  # looks without an answer: a controller may start again
SHOWN = 10  # jobs in a line
SAVE_S = 120  # a job is told so long before its time limit
OURS = ('array', 'signal', 'output', 'error', 'open-mode', 'requeue', 'no-requeue', 'wrap')


def check(options: LaunchOptions) -> None:
    """Raises UserError where no job can be submitted with these options from here."""
    needed('the launcher slurm', 'submitit')
    parameters(options, 'study')
    _queue()


def launch(work: Launch) -> None:
    """Submits the jobs that are not in the queue yet.

    Raises:
        UserError: SLURM is not there, or refuses the jobs.
    """
    queued = _in_queue(work.study_dir)
    known = [job for job in work.jobs if job in queued]
    fresh = [job for job in work.jobs if job not in queued]
    if known:
        some = [f'{job} ({" ".join(queued[job])})' for job in known[:SHOWN]]
        text = ', '.join([*some, '...'] if len(known) > SHOWN else some)
        work.say(f'SLURM has {len(known)} of the jobs, which are not submitted again: {text}')
    if fresh:
        _submit(work, fresh)
    if work.options.wait:
        _watch(work)
    else:
        work.say(
            "the jobs are SLURM's now: 'squeue' shows them, and the same command shows how "
            f'far they are; their output is in {work.study_dir / "logs"}'
        )


def parameters(options: LaunchOptions, name: str) -> dict[str, Any]:
    """The parameters of submitit's executor for a study of this name.

    Raises:
        UserError: there is no time limit, or SLURM cannot have what is asked for.
    """
    minutes, gpus = options.time_limit, options.gpus
    if minutes is None:
        raise UserError(
            '`time_limit` is missing, and SLURM needs it: give the minutes of one turn; a job that '
            'takes longer goes on in its next turn'
        )
    if gpus is not None and not gpus.is_integer():
        raise UserError(f'`gpus`={gpus}: SLURM lends whole GPUs: give a whole number')
    given = {
        'partition': options.partition,
        'account': options.account,
        'cpus_per_task': options.cpus,
        'srun_args': options.cpus and [f'-c{options.cpus}'],  # srun does not take it from sbatch
        'mem': options.memory_gb and f'{round(options.memory_gb * 1024)}M',
        'gpus_per_node': gpus and int(gpus),
    }
    return {
        **{key: value for key, value in given.items() if value},
        'job_name': f'dtql-{name}',
        'wckey': None,  # submitit's own, which a cluster that knows wckeys would refuse
        'time': minutes,
        'signal_delay_s': min(SAVE_S, minutes * 30),
        'array_parallelism': ARRAY,
        'stderr_to_stdout': True,
        'additional_parameters': {'requeue': True, **_more(options.slurm_args)},
    }


def _more(text: str | None) -> dict[str, Any]:
    """The arguments of `slurm_args`: a word without '=' is a flag."""
    with outside(f'`slurm_args`={text!r}', 'close the quotation mark'):
        words = shlex.split(text or '')
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.lstrip('-').partition('=')
        key = key.replace('_', '-')
        if key in OURS:
            raise UserError(f'`slurm_args`: {key!r} is set by the launcher: leave it out')
        found[key] = value if equals else True
    return found


def _submit(work: Launch, jobs: Sequence[str]) -> None:
    """Submits jobs, and writes down their numbers."""
    submitit = needed('the launcher slurm', 'submitit')
    folder = work.study_dir / 'logs' / 'slurm'
    if '%' in str(folder):
        raise UserError(f'{folder}: SLURM reads % as a mark: begin the study in another folder')
    asked = parameters(work.options, work.study_dir.name)
    cure = "correct the options ('sinfo' lists the partitions), and repeat"
    numbers = {job: number for job, (number, _) in _in_queue(work.study_dir).items()}
    for first in range(0, len(jobs), ARRAY):
        part = jobs[first : first + ARRAY]
        calls = [SlurmJob(str(work.study_dir), job, asked['time']) for job in part]
        with (
            outside('SLURM takes no job', cure),
            _outside_of_a_job(),
            contextlib.redirect_stderr(io.StringIO()),  # submitit prints the text of its error too
        ):
            # Any number of turns: `SlurmJob` gives up a job that makes no step in them.
            executor = submitit.SlurmExecutor(folder, max_num_timeout=10**9)
            executor.update_parameters(**asked)
            submitted = executor.submit_array(calls)
        numbers |= {job: one.job_id for job, one in zip(part, submitted, strict=True)}
        write_whole(_numbers_file(work.study_dir), json.dumps(numbers, indent=1))
        ids = dict.fromkeys([submitted[0].job_id, submitted[-1].job_id])
        work.say(f'submitted to SLURM: {" to ".join(ids)}')


def _watch(work: Launch) -> None:
    """Says how the jobs stand whenever that changes, until SLURM has none of them.

    Raises:
        StudyStopped: SIGINT or SIGTERM came. The jobs stay in the queue.
    """
    stop, said, silent = StopFlag(), '', 0
    with stop.listening():
        while not stop():
            try:
                queued, silent = _in_queue(work.study_dir), 0
            except UserError as error:
                silent += 1
                if silent == PATIENCE:
                    raise
                if silent == 1:
                    work.say(f'{error}: the jobs are not touched, and the driver asks again')
            else:
                text = summary(read_status(work.study_dir))
                if text != said:
                    work.say(f'{text}; {len(queued)} in the queue of SLURM')
                said = text
                if not queued:
                    return
            _pause(stop)
    work.say("the jobs stay in the queue of SLURM: 'scancel' ends them")
    raise StudyStopped(work.study_dir, stop.signal or signal.SIGINT)


def _pause(stop: StopFlag) -> None:
    """Sleeps in short steps, so that a signal ends the pause."""
    end = time.monotonic() + LOOK_S
    while time.monotonic() < end and not stop():
        time.sleep(min(LOOK_S, 0.2))


def _in_queue(study_dir: pathlib.Path) -> dict[str, tuple[str, str]]:
    """The jobs of a study that SLURM has and that have not ended: number and state."""
    path = _numbers_file(study_dir)
    if not path.exists():
        return {}
    numbers = read_json(path, "cancel the study's jobs with 'scancel', and delete the file")
    queue = _queue()
    return {job: (number, queue[number]) for job, number in numbers.items() if number in queue}


def _numbers_file(study_dir: pathlib.Path) -> pathlib.Path:
    return study_dir / 'state' / 'slurm.json'


def _queue() -> dict[str, str]:
    """The user's jobs in SLURM's queue: number -> state."""
    line = ['squeue', '-h', '-r', '-u', str(os.getuid()), '-o', '%i|%T|%r']
    if shutil.which(line[0]) is None:
        raise UserError(
            "this machine has no SLURM (no command 'squeue'): repeat it on a login node of the "
            'cluster, or choose another `launcher`'
        )
    cure = "ask 'scontrol ping' whether its controller runs, and repeat"
    with outside('SLURM does not answer', cure):
        answer = subprocess.run(line, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    if answer.returncode:
        said = ' '.join(answer.stderr.split()) or f'exit code {answer.returncode}'
        raise UserError(f'SLURM does not answer ({said}): {cure}')
    rows = (row.split('|') for row in answer.stdout.splitlines())
    # The reason tells why a job waits, such as PartitionTimeLimit, and is None where it runs.
    return {
        number: state if reason == 'None' else f'{state} {reason}' for number, state, reason in rows
    }


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hides that this process may be part of a SLURM job, whose sizes new jobs would inherit."""
    inside = 'SLURM_JOB_ID' in os.environ
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if inside and name.startswith(('SLURM_', 'SRUN_')) and name != 'SLURM_CONF'
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
