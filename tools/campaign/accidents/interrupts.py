"""Signals, threads and sinks that fail while a run is under way."""

import contextlib
import functools
import os
import pathlib
import resource
import signal
import sys
import time

from tools.campaign import victim
from tools.campaign.accidents import LIMIT_S, Outcome, Place, accident, check, either, expect
from tools.campaign.processes import Ended

SOON_S = 15.0


def stopped(place: Place, *signals: int, env: str = 'faulty') -> tuple[Ended, float]:
    """A run whose simulator hangs in an evaluation, and the signals that it then gets."""
    mark = place.folder / 'hangs'
    variables = {'CAMPAIGN_FAULT': 'hang', 'CAMPAIGN_MARK': str(mark)}
    child = place.start_train(f'--env={env}', variables=variables)
    end = time.monotonic() + 2 * LIMIT_S
    while not (mark.exists() or child.over() or time.monotonic() > end):
        time.sleep(0.05)
    time.sleep(1)
    began = time.monotonic()
    for number in signals:
        child.send(number)
        time.sleep(1)
    return child.wait(SOON_S + 10), time.monotonic() - began


@accident
def sigterm_while_a_simulator_hangs(place: Place) -> Outcome:
    """SIGTERM while a simulator in this process hangs: it saves, or says so, and ends."""
    ended, seconds = stopped(place, signal.SIGTERM)
    if ended.code == 128 + signal.SIGTERM:
        return Outcome('as promised', f'{ended.last} ({seconds:.0f} s)', ended.code)
    return expect(ended, 'refused')


@accident
def second_interrupt_while_a_simulator_hangs(place: Place) -> Outcome:
    """Ctrl-C twice while a simulator in this process hangs: it ends."""
    ended, seconds = stopped(place, signal.SIGINT, signal.SIGINT)
    if ended.code in (128 + signal.SIGINT, -signal.SIGINT):
        return Outcome('as promised', f'{ended.last} ({seconds:.0f} s)', ended.code)
    return expect(ended, 'refused')


@accident
def sigterm_while_a_worker_hangs(place: Place) -> Outcome:
    """SIGTERM while a simulator in a worker process hangs: it saves, or says so, and ends."""
    ended, seconds = stopped(place, signal.SIGTERM, env='slow')
    if ended.code == 128 + signal.SIGTERM:
        return Outcome('as promised', f'{ended.last} ({seconds:.0f} s)', ended.code)
    return expect(ended, 'refused')


@accident
def interrupt_at_the_start(place: Place) -> Outcome:
    """Ctrl-C while the agent of the command is imported: `interrupted`, exit code 130."""
    slow = place.folder / 'slow.py'
    slow.write_text(f'import time\ntime.sleep(3)\nexec(open({str(victim.AGENT)!r}).read())\n')
    child = place.start_dtql('train', f'--agent={slow}:Line', '--env=walk')
    time.sleep(1)
    child.send(signal.SIGINT)
    ended = child.wait()
    return Outcome('as promised' if ended.code == 130 else ended.verdict, ended.last, ended.code)


@accident
def evaluation_thread_cannot_start(place: Place) -> Outcome:
    """The system has no thread for the evaluation."""

    def refuse() -> None:
        import _thread
        import threading

        def none(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        _thread.start_new_thread = none
        start = threading.Thread.start

        def refusing(self: threading.Thread) -> None:
            if self.name.startswith('evaluation'):
                none()
            start(self)

        threading.Thread.start = refusing  # type: ignore[method-assign]

    return expect(place.train(before=refuse), 'refused', 'thread')


@accident
def memory_limit(place: Place) -> Outcome:
    """The address space is limited (ulimit -v) to 1 GiB above what imports take: no hang."""

    def limit() -> None:
        pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
        most = pages * os.sysconf('SC_PAGE_SIZE') + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    ended = place.train(before=limit)
    # XLA may end the process itself where it cannot have threads.
    return Outcome('hang' if ended.code is None else 'as promised', ended.last, ended.code)


class Sink:
    """A place for rows that fails in one of its methods."""

    module = 'json'

    def __init__(self, fails: str, run_dir: object, config: object):
        self.fails = fails
        self.fail('open')

    def fail(self, what: str) -> None:
        if what == self.fails:
            raise ConnectionError('the server of the sink is down')

    def write(self, step: int, row: object) -> None:
        self.fail('write')

    def close(self) -> None:
        self.fail('close')


def install(fails: str) -> None:
    """Puts the sink in the place of wandb's, wherever the package keeps them."""
    import importlib

    for module in ('sinks', 'loggers'):
        with contextlib.suppress(ImportError):
            found = importlib.import_module(f'dtql_jax.report.{module}')
            if hasattr(found, 'SINKS'):
                sink = functools.partial(Sink, fails)
                sink.module = Sink.module  # type: ignore[attr-defined]
                found.SINKS['wandb'] = sink
                return
    raise LookupError('there are no SINKS')


def with_sink(place: Place, fails: str) -> Outcome:
    """A run with a sink that fails: it is dropped with a warning."""
    ended = place.train('--log_to=wandb', before=functools.partial(install, fails))
    rows = len(victim.rows(place.folder / 'run', 'metrics'))
    told = expect(ended, 'done', 'warning: ', 'the server of the sink is down')
    return check(told, (rows == 2, f'{rows} rows'))


@accident
def sink_fails_to_open(place: Place) -> Outcome:
    """wandb cannot be reached when the run begins."""
    ended = place.train('--log_to=wandb', before=functools.partial(install, 'open'))
    return either(ended, 'wandb')


@accident
def sink_fails_to_write(place: Place) -> Outcome:
    """wandb goes down under way: it is dropped with a warning, and the run goes on."""
    return with_sink(place, 'write')


@accident
def sink_fails_to_close(place: Place) -> Outcome:
    """wandb goes down at the end."""
    return with_sink(place, 'close')


@accident
def poisoned_lane(place: Place) -> Outcome:
    """One of two lanes goes to NaN: the other one's rows are those of a healthy run."""

    def work(name: str, blow: float) -> int:
        import dtql_jax

        dtql_jax.run(
            {
                'env': 'walk', 'agent': f'{victim.AGENT}:Line', 'num_seeds': 1, 'batch_size': 8,
                'eval_episodes': 2, 'steps': 400, 'eval_every': 200,
                'variants': {'a': {}, 'b': {'blow_at': blow}},
            },
            out=name,
        )  # fmt: skip
        return 0

    runs = {name: place.folder / name for name in ('well', 'ill')}
    ended = place.call(functools.partial(work, 'well', -1.0))
    if ended.verdict == 'done':
        ended = place.call(functools.partial(work, 'ill', 150.0))
    same = all(_lane(runs['well'], log) == _lane(runs['ill'], log) != [] for log in victim.LOGS)
    return check(expect(ended, 'done', 'diverged'), (same, 'the healthy lane has other rows'))


def _lane(run, log: str) -> list:
    """The rows of the lane `a`."""
    return [row for row in victim.rows(run, log) if row['variant'] == 'a']


@accident
def output_to_a_full_disk(place: Place) -> Outcome:
    """Standard output is a full disk (/dev/full)."""

    def full() -> None:
        os.dup2(os.open('/dev/full', os.O_WRONLY), 1)

    return expect(place.dtql('list', before=full), 'refused', 'space')


@accident
def output_closed(place: Place) -> Outcome:
    """The reader of standard output has gone (`dtql train | head -1`): a run goes on or ends."""

    def closed() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
        sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115 (it may take a pipe for a file)

    ended = place.train(before=closed)
    good = ended.verdict == 'done' or ended.code == 128 + signal.SIGPIPE
    return Outcome('as promised' if good else ended.verdict, ended.last, ended.code)


@accident
def terminal_gone(place: Place) -> Outcome:
    """SIGHUP: it ends, and a resume ends well."""
    child = place.start_train()
    place.wait_for_rows(child, 2)
    child.send(signal.SIGHUP)
    child.wait()
    return expect(place.dtql('train', '--out=run', *victim.FLAGS, '--resume'), 'done')
