"""Runs the jobs of a study as tasks of a Ray cluster, and waits for them.

A task only starts the process of a job and waits for it. Where a node is lost, Ray runs its tasks
on other nodes, and they go on from their last checkpoints.
"""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from dtql_jax.studies.board import Board, lines_of
from dtql_jax.studies.child import Child
from dtql_jax.studies.folder import PLAN, read_plan
from dtql_jax.studies.launch import Launch, LaunchOptions, StudyStopped
from dtql_jax.studies.local import FRACTION, USUAL_FRACTION
from dtql_jax.studies.status import read_status
from dtql_jax.studies.tables import status_table
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import UserError, needed, outside, why

ADDRESS = 'RAY_ADDRESS'
PORT_S, ANSWER_S = 10.0, 60.0  # in which a cluster that is there answers
LOOK_S = 1.0
STOP_S = 300.0  # in which the jobs save their checkpoints
# Variables that say where data are and how to compute. A node does not have the driver's.
CARRIED = ('JAX_', 'XLA_', 'MINARI_', 'DTQL_', 'D4RL_', 'OGBENCH_', 'MUJOCO_', 'HF_ENDPOINT')
NO_START = 'not started'  # what a task returns beside the states of jobs
CURE = "check the address, which 'ray status' tells, and whether the cluster is up"


def check(options: LaunchOptions) -> None:
    """Raises UserError where ray is not installed, or no cluster answers at the address."""
    needed('the launcher ray', 'ray')
    resources(options, {})
    address = options.address or os.environ.get(ADDRESS)
    if address and address not in ('auto', 'local'):
        _check_address(address)


def _check_address(address: str) -> None:
    """Raises UserError where no cluster answers. Ray itself would try for minutes."""
    host, colon, port = address.removeprefix('ray://').rpartition(':')
    if not colon or not port.isdecimal():
        raise UserError(f'`address`={address}: write HOST:PORT, such as 10.0.0.1:6379')
    with outside(f'`address`={address}: nobody answers there', CURE):
        socket.create_connection((host.strip('[]'), int(port)), PORT_S).close()
    if address.startswith('ray://'):
        return
    line = [sys.executable, '-m', 'ray.scripts.scripts', 'status']
    asked = {**os.environ, ADDRESS: address}
    try:
        subprocess.run(line, capture_output=True, timeout=ANSWER_S, check=True, env=asked)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise UserError(
            f'`address`={address}: who answers there is no Ray cluster, or one of another '
            f'version; {CURE}'
        ) from None


def launch(work: Launch) -> None:
    """Runs the jobs on the cluster, and prints a table at the end.

    Raises:
        StudyStopped: SIGINT or SIGTERM came. The jobs have saved their checkpoints.
        UserError: there is no cluster, or a node of it lacks the study's folder.
    """
    ray = needed('the launcher ray', 'ray')
    # Nothing is reported to anybody from a cluster that this process starts.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    with outside('ray cannot be used', CURE):
        ray.init(address=work.options.address, log_to_driver=False, logging_level='ERROR')
    try:
        driver = Driver(work, ray)
        stop = StopFlag()
        with stop.listening():
            try:
                driver.run(stop)
            finally:
                driver.cancel()
    finally:
        ray.shutdown()
    if stop.signal is not None:
        raise StudyStopped(work.study_dir, stop.signal)
    driver.board.say(f'\n{status_table(read_status(work.study_dir))}')
    if driver.errors:
        raise UserError('; '.join(driver.errors))


class Driver:
    """Submits the tasks, and watches them."""

    def __init__(self, work: Launch, ray: Any):
        self.board = Board()
        self.errors: dict[str, None] = {}  # of nodes, each once
        self._work, self._ray = work, ray
        self._plan = read_plan(work.study_dir)
        asked = resources(work.options, ray.cluster_resources())
        nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
        if not any(_parts(asked, node) for node in nodes):
            self.board.say(f'no node has what a job asks for ({asked}): the jobs wait for one')
        task = ray.remote(max_retries=-1, **asked)(run_job)
        changes = variables(os.environ, asked['num_gpus'])
        self._tasks = {
            task.options(name=job).remote(str(work.study_dir), job, changes): job
            for job in work.jobs
        }
        self._slots = max(1, sum(_parts(asked, node) for node in nodes))

    def run(self, stop: StopFlag) -> None:
        """Returns once all tasks have ended or the flag is set."""
        while self._tasks and not stop():
            ended, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=LOOK_S)
            for task in ended:
                self.board.say(self._ended(task, self._tasks.pop(task)))
            self.board.show(
                lines_of(self._plan.jobs, read_status(self._work.study_dir), self._slots)
            )

    def cancel(self) -> None:
        """Ends the tasks that are left: their jobs save checkpoints."""
        if not self._tasks:
            return
        self.board.say('stopping: the jobs save their checkpoints')
        for task in self._tasks:
            self._ray.cancel(task)
        self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=STOP_S)

    def _ended(self, task: Any, job: str) -> str:
        """What became of a job, in one line."""
        try:
            state, reason = self._ray.get(task)
        except Exception as error:  # of the worker, such as without this package
            state, reason = NO_START, why(getattr(error, 'cause', None) or error)[-300:]
        if state == NO_START:
            self.errors[reason] = None
        return f'{job}: {state}' + (f': {reason}' if reason else '')


def run_job(study_dir: str, job: str, changes: Mapping[str, str]) -> tuple[str, str]:
    """The task of a job, on a node: runs it to its end.

    Args:
        study_dir: the folder of the study.
        job: its name.
        changes: environment variables of its process.

    Returns:
        Its state and the reason; NO_START where it could not be started here.
    """
    folder = pathlib.Path(study_dir)
    if not (folder / PLAN).is_file():
        return NO_START, (
            f'the node {socket.gethostname()} has no {folder}: put the study on a file system '
            'that all nodes share'
        )
    child = Child(folder, job, changes)
    try:
        status = child.run()
    except BaseException:  # the task is cancelled
        child.signal()
        child.wait()
        raise
    if status is None:
        return 'left out', 'another process has it'
    return status.state, status.reason


def resources(options: LaunchOptions, cluster: Mapping[str, float]) -> dict[str, float]:
    """What Ray is to keep free for a job: by default a core, and a GPU where there are any.

    Raises:
        UserError: Ray lends no such part of GPUs.
    """
    gpus = options.gpus
    if gpus is None:
        gpus = 1.0 if cluster.get('GPU') else 0.0
    if gpus > 1 and not gpus.is_integer():
        raise UserError(f'`gpus`={gpus}: Ray lends a part of one GPU or whole ones')
    found = {'num_cpus': float(options.cpus or 1), 'num_gpus': gpus}
    if options.memory_gb is not None:
        found['memory'] = options.memory_gb * 2**30
    return found


def variables(environment: Mapping[str, str], gpus: float) -> dict[str, str]:
    """The environment variables of a job that has so many GPUs."""
    found = {name: value for name, value in environment.items() if name.startswith(CARRIED)}
    if 0 < gpus < 1:
        found[FRACTION] = f'{float(found.get(FRACTION, USUAL_FRACTION)) * gpus:.3f}'
    return found


def _parts(asked: Mapping[str, float], cluster: Mapping[str, float]) -> int:
    """How many jobs have room at a time."""
    names = {'num_cpus': 'CPU', 'num_gpus': 'GPU', 'memory': 'memory'}
    return min(
        int(cluster.get(names[name], 0) / amount) for name, amount in asked.items() if amount
    )
