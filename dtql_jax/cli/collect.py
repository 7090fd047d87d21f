"""Collects a dataset in a task's simulator, in parallel, as an ordinary Minari set.

  dtql collect --env=pointmaze-large              # wandering, the task's own set
  dtql collect --env=antmaze-large-play-v2 --policy=ant.npz --steps=1e6
  dtql collect --policy=runs/x --noise=0.1 --dataset=me/x-v0

--policy is the folder of a run or a file. Of a run, the last policy of the first seed acts in the
run's task. A file holds the weights of a goal-reaching ant (docs/data.md).

Ctrl-C and SIGTERM stop a collection. The same command continues it, also after a kill, and ends
with the arrays of an undisturbed one, whatever the number of workers. No set is overwritten.

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains; 130
and 143 stopped by Ctrl-C and SIGTERM.
"""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError, user_path

if TYPE_CHECKING:
    from dtql_jax.collect.base import Behaviour
    from dtql_jax.collect.write import Collected
    from dtql_jax.report.console import Console
    from dtql_jax.tasks.task import Task

FLAGS = flags.FlagValues()
flags.DEFINE_string('env', None, "task (default: pointmaze-umaze, or the run's)", FLAGS)
define_whole('steps', None, "least number of steps (default: the task's own, or 100,000)", FLAGS)
flags.DEFINE_string('policy', None, "a run's folder, or an ant's .npz file", FLAGS)
flags.DEFINE_float(
    'noise',
    None,
    'deviation of the Gaussian noise on actions (default: 0.2 for an ant, else 0)',
    flag_values=FLAGS,
)
define_whole('seed', 0, 'decides every episode', FLAGS)
flags.DEFINE_string(
    'dataset',
    None,
    "Minari id (default: the task's own set if wandering makes it, else dtql/<env>-collected-v0)",
    FLAGS,
)
define_whole('workers', None, 'processes (speed only; default: one per core)', FLAGS)

ANT_NOISE = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `dtql collect`; returns the exit code."""
    return run_command(collect_dataset, FLAGS, __doc__ or '', argv)


def collect_dataset(asked: flags.FlagValues) -> int:
    """Collects what the flags ask for; returns the exit code.

    Raises:
        UserError: the flags contradict each other, or the set exists.
    """
    # Workers with a policy of their own share an accelerator.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    # Imported here because --help needs none of it.
    from dtql_jax.collect.write import collect, dataset_folder, default_dataset, default_steps
    from dtql_jax.report.console import Console
    from dtql_jax.rollout.env_pool import cores

    check_ranges(asked)
    actor = behaviour(asked)
    dataset = asked.dataset or default_dataset(actor)
    steps = asked.steps or default_steps(actor.task)
    folder = dataset_folder(dataset)
    taken = f'{folder} exists and is never overwritten: choose another name with --dataset'
    if folder.exists():
        raise UserError(taken)
    console = Console()
    console.say(f'collecting {dataset}: {steps:,} steps of {actor.task.name}, {actor.algorithm}')
    progress, workers = ProgressLine(console, steps), asked.workers or cores()
    try:
        with signals_interrupt():
            result = collect(actor, dataset, steps, asked.seed, workers=workers, progress=progress)
    except KeyboardInterrupt as stopped:
        console.clear()
        print('stopped: finished shards are kept; the same command continues', file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    if result is None:  # another process has collected it meanwhile
        raise UserError(taken)
    console.say(summary(result, actor.task))
    return 0


def check_ranges(asked: flags.FlagValues) -> None:
    """Raises UserError for a number out of range, before anything is read."""
    for name, least in (('steps', 1), ('seed', 0), ('workers', 1), ('noise', 0)):
        value = asked[name].value
        if value is not None and not least <= value < math.inf:
            raise UserError(f'--{name}={value}: must be at least {least}, and finite')


def summary(result: 'Collected', task: 'Task') -> str:
    """What was collected, and the command that trains on it."""
    success = '' if result.success is None else f', success in {result.success:.1%}'
    command = f'dtql train --env={task.name}'
    if result.dataset not in task.datasets:
        command += f' --dataset_path={result.path}'
        if task.goal == 'recorded':  # D4RL's rewards mean one goal, collected ones each their own
            command += ' --goal=relabel'
    return f'{result}\nmean return {result.mean_return:.2f}{success}\ntrain     {command}'


def behaviour(asked: flags.FlagValues) -> 'Behaviour':
    """The behaviour that the flags ask for.

    Raises:
        UserError: there is no such policy, or it does not act in the task.
    """
    from dtql_jax.collect.ant import ant_walk
    from dtql_jax.collect.wander import Wander
    from dtql_jax.runs.policy import trained_behaviour
    from dtql_jax.tasks.registry import resolve

    task, _ = resolve(asked.env or 'pointmaze-umaze')
    if asked.policy is None:
        return Wander(task, asked.noise or 0.0)
    policy = user_path('policy', asked.policy)
    if not policy.exists():
        raise UserError(f'--policy={policy}: there is no such file or folder')
    if policy.is_file():
        return ant_walk(task, policy, ANT_NOISE if asked.noise is None else asked.noise)
    actor = trained_behaviour(policy, asked.noise or 0.0)
    if asked.env is not None and task.name != actor.task.name:
        raise UserError(
            f'--env={asked.env}: {policy} acts in {actor.task.name}, in which it was trained: '
            'leave out --env'
        )
    return actor


class ProgressLine:
    """Shows the progress of a collection when it is called with the steps recorded so far."""

    def __init__(self, console: 'Console', steps: int):
        self._console, self._steps = console, steps
        self._began: float | None = None
        self._over = False

    def __call__(self, done: int) -> None:
        from dtql_jax.report.console import duration

        if self._began is None:
            self._began, self._found = time.perf_counter(), done
            if done:
                self._console.say(f'continuing after {done:,} steps')
            return
        if self._over:
            return
        self._over = done >= self._steps
        rate = (done - self._found) / (time.perf_counter() - self._began)
        left = max(0, self._steps - done) / rate
        text = f'{done:,}/{self._steps:,}  {rate:,.0f} steps/s  {duration(left)} left'
        self._console.rewrite(text, last=self._over)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a collection as Ctrl-C does."""


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated` and SIGINT raises KeyboardInterrupt.

    SIGINT does so in a shell's background job too, which would ignore it otherwise.
    """

    def interrupt(*_: object) -> None:
        raise Terminated

    handlers: dict[signal.Signals, Any] = {
        signal.SIGTERM: interrupt,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
