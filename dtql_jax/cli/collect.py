"""Collects a dataset in a task's simulator, in parallel, as an ordinary Minari set.

  dtql collect --env=pointmaze-large              # wandering, the task's own set
  dtql collect --env=antmaze-large-play-v2 --policy=ant.npz --steps=1e6
  dtql collect --policy=runs/x --noise=0.1 --dataset=me/x-v0

A policy is the folder of a run, whose first seed acts in the run's task by its last policy, or a
file with the weights of a goal-reaching ant (docs/data.md).

Stopped by Ctrl-C or SIGTERM, or killed, a collection is resumed by the same command, and ends with
the same arrays as an undisturbed one, whatever the number of workers. No set is overwritten.

Exit codes: 0 done; 2 a mistake in what was asked for, told in one line; 130 and 143 stopped by
Ctrl-C and SIGTERM.
"""

import contextlib
import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string('env', None, "task (default: pointmaze-umaze, or the run's)", FLAGS)
define_whole('steps', None, 'steps, at least (default: those of run.py, or 100,000)', FLAGS)
flags.DEFINE_string('policy', None, "a run's folder, or an ant's .npz file", FLAGS)
flags.DEFINE_float(
    'noise',
    None,
    'deviation of the noise on actions (default: 0.2 for an ant, else 0)',
    flag_values=FLAGS,
)
define_whole('seed', 0, 'decides every episode', FLAGS)
flags.DEFINE_string(
    'dataset',
    None,
    "Minari id (default: dtql/<env>-collected-v0, a wanderer's the task's own)",
    FLAGS,
)
define_whole('workers', None, 'processes (speed only; default: one for each core)', FLAGS)

ANT_NOISE = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Collects; returns the exit code."""
    return run_command(collect, FLAGS, __doc__, argv)


def collect(asked: flags.FlagValues) -> int:
    # Workers with a policy of their own share an accelerator.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    # Here and not above: --help needs none of it.
    from dtql_jax.collect.write import collect, dataset_folder, default_dataset, default_steps
    from dtql_jax.report.console import Console
    from dtql_jax.rollout.env_pool import cores

    check(asked)
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
        print(
            'stopped: what is finished is kept, the same command goes on with it', file=sys.stderr
        )
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    if result is None:  # another process has collected it meanwhile
        raise UserError(taken)
    success = '' if result.success is None else f', goal reached in {result.success:.1%}'
    own = dataset in actor.task.datasets
    # D4RL's rewards mean one goal, those of what was walked here each their own.
    relabel = ' --set goal=relabel' if actor.task.goal == 'recorded' else ''
    console.say(
        f'{result}\nmean return {result.mean_return:.2f}{success}\n'
        f'train     dtql train --env={actor.task.name}'
        + ('' if own else f' --dataset_path={result.path}{relabel}')
    )
    return 0


def check(asked: flags.FlagValues) -> None:
    """Raises UserError for flags that cannot be met, before anything is read."""
    for name, least in (('steps', 1), ('seed', 0), ('workers', 1), ('noise', 0)):
        if asked[name].value is not None and not least <= asked[name].value < math.inf:
            raise UserError(f'--{name}={asked[name].value}: must be at least {least}, and finite')


def behaviour(asked: flags.FlagValues):
    """Who acts; raises UserError where the policy and the task do not go together."""
    from dtql_jax.collect.ant import ant_walk
    from dtql_jax.collect.wander import Wander
    from dtql_jax.runs.policy import trained_behaviour
    from dtql_jax.tasks.registry import resolve

    task, _ = resolve(asked.env or 'pointmaze-umaze')
    policy = pathlib.Path(asked.policy or '').expanduser()
    if asked.policy is None:
        return Wander(task, asked.noise or 0.0)
    if not policy.exists():
        raise UserError(f'--policy={policy}: no such file, nor the folder of a run')
    if policy.is_file():
        return ant_walk(task, policy, ANT_NOISE if asked.noise is None else asked.noise)
    actor = trained_behaviour(policy, asked.noise or 0.0)
    if asked.env is not None and task.name != actor.task.name:
        raise UserError(
            f'--env={asked.env}: {policy} acts in {actor.task.name}, in which it was trained: '
            'drop the flag'
        )
    return actor


class ProgressLine:
    """Says how far the collection is; called with the steps that there are by now."""

    def __init__(self, console, steps: int):
        self._console, self._steps = console, steps
        self._began: float | None = None
        self._over = False

    def __call__(self, done: int) -> None:
        from dtql_jax.report.console import duration

        if self._began is None:
            self._began, self._found = time.perf_counter(), done
            if done:
                self._console.say(f'going on with the {done:,} steps that there are')
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
    """Within, SIGTERM raises `Terminated` and SIGINT KeyboardInterrupt.

    A shell has its background jobs ignore SIGINT; one that is sent on purpose counts all the same.
    """

    def interrupt(*_: object) -> None:
        raise Terminated

    handlers = {signal.SIGTERM: interrupt, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
