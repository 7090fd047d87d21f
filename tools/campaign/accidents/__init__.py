"""Single accidents by name, each with what is promised.

An accident is a function of a `Place`. Its docstring says what happens, its result is an `Outcome`.
Importing the modules below registers theirs.
"""

import contextlib
import functools
import importlib
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tools.campaign import permissions, victim
from tools.campaign.processes import Child, Ended
from tools.campaign.store import Store

MODULES = (
    'folders', 'edits', 'interrupts', 'simulators', 'values', 'recorded', 'paths', 'machine',
    'commands',
)  # fmt: skip
ROOT = pathlib.Path(__file__).parents[3]
LIMIT_S = 40.0
# Of runs that a few seconds of training are enough for.
SHORT = ('--steps=400', '--eval_every=200', '--pretrain_steps=0', '--num_seeds=1')


class Outcome(NamedTuple):
    """What came of an accident: `as promised`, or what came instead; and one line about it."""

    verdict: str
    text: str
    code: int | None = None


class Skip(Exception):
    """The accident cannot be made here; the message says why."""


ACCIDENTS: dict[str, Callable[['Place'], Outcome]] = {}


def accident(function: Callable[['Place'], Outcome]) -> Callable[['Place'], Outcome]:
    """Registers an accident under its function's name."""
    ACCIDENTS[function.__name__] = function
    return function


class Place:
    """An empty folder for an accident, and the processes that meet it there."""

    def __init__(self, folder: pathlib.Path, checkout: pathlib.Path):
        self.folder, self.checkout, self._number = folder, checkout, 0
        self.data = folder.parent / 'data.hdf5'

    def _log(self) -> pathlib.Path:
        self._number += 1
        return self.folder.parent / f'{self.folder.name}-{self._number}'

    def start(
        self,
        work: Callable[[], int | None],
        before: Callable[[], object] | None = None,
        obeying: bool = False,
        variables: Mapping[str, str] | None = None,
        folder: pathlib.Path | None = None,
    ) -> Child:
        """A process that does `work`, after `before`, where the permissions of files bind it."""

        def whole() -> int | None:
            with contextlib.ExitStack() as stack:
                if obeying:
                    stack.enter_context(permissions.obeying())
                if before:
                    before()
                return work()

        return Child(whole, self._log(), folder or self.folder, variables)

    def start_dtql(self, *arguments: str, **options) -> Child:
        """`dtql`, in a process of its own."""
        return self.start(functools.partial(victim.command, *arguments), **options)

    def dtql(self, *arguments: str, limit_s: float = LIMIT_S, **options) -> Ended:
        """`dtql` to its end."""
        return self.start_dtql(*arguments, **options).wait(limit_s)

    def start_train(self, *flags: str, out: str = 'run', **options) -> Child:
        """The campaign's run, which takes some seconds."""
        return self.start_dtql('train', f'--out={out}', *victim.FLAGS, *flags, **options)

    def train(self, *flags: str, limit_s: float = LIMIT_S, **options) -> Ended:
        """A short run to its end."""
        return self.start_train(*SHORT, *flags, **options).wait(limit_s)

    def call(self, work: Callable[[], int | None], limit_s: float = LIMIT_S, **options) -> Ended:
        """A function to its end."""
        return self.start(work, **options).wait(limit_s)

    def script(
        self,
        code: str,
        variables: Mapping[str, str | None] | None = None,
        limit_s: float = 2 * LIMIT_S,
        limits: Mapping[int, int] | None = None,
    ) -> Ended:
        """A script in a fresh interpreter, with limits of `resource` and changed variables."""
        path = self.folder / 'script.py'
        path.write_text(code)
        environment = {**os.environ, 'PYTHONPATH': f'{self.checkout}{os.pathsep}{ROOT}'}
        for name, value in (variables or {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value

        def limit() -> None:
            for what, most in (limits or {}).items():
                resource.setrlimit(what, (most, most))

        began, code_, out, err = time.monotonic(), None, '', ''
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [sys.executable, str(path)], cwd=self.folder, env=environment, timeout=limit_s,
                capture_output=True, text=True, check=False, preexec_fn=limit,
            )  # fmt: skip
            code_, out, err = done.returncode, done.stdout, done.stderr
        return Ended(code_, out, err, time.monotonic() - began)

    def wait_for_rows(self, child: Child, count: int = 1, log: str = 'metrics') -> None:
        """Waits until a run in `run` has written rows."""
        end = time.monotonic() + LIMIT_S
        while len(victim.rows(self.folder / 'run', log)) < count and not child.over():
            time.sleep(0.005)
            if time.monotonic() > end:
                child.send(9)
        if child.over():
            raise Skip(f'the run ended before its accident: {child.wait()}')


def expect(ended: Ended, verdict: str, *words: str) -> Outcome:
    """As promised where a process ended like that, and said these words in any case."""
    said = ended.last if verdict == 'refused' else ended.out + ended.err
    missing = [word for word in words if word.lower() not in said.lower()]
    limit = f'no end within {ended.seconds:.0f} s'
    text = {'done': 'exit code 0', 'hang': limit}.get(ended.verdict, ended.last)
    if ended.verdict != verdict:
        other = {'refused': 'wrongly refused', 'done': 'unnoticed'}
        return Outcome(other.get(ended.verdict, ended.verdict), text, ended.code)
    if missing:
        return Outcome('other words', f'lacks {missing}: {text}', ended.code)
    return Outcome('as promised', text, ended.code)


# A run came to its end; in the second, the table says why no seed has a score.
ENDS = ('done', 'exit 1')


def either(ended: Ended, *words: str, ends: Sequence[str] = ('done',)) -> Outcome:
    """As promised where a process ended in one of `ends` or was refused, and said these words."""
    outcome = expect(ended, ended.verdict if ended.verdict in ends else 'refused')
    said = (ended.out + ended.err).lower()
    missing = [word for word in words if word.lower() not in said]
    return check(outcome, (not missing, f'it does not say {missing}'))


def check(outcome: Outcome, *conditions: tuple[bool, str]) -> Outcome:
    """The outcome, unless one of the conditions does not hold, which its text then says."""
    if outcome.verdict != 'as promised':
        return outcome
    for holds, text in conditions:
        if not holds:
            return outcome._replace(verdict='wrong', text=f'{text}: {outcome.text}')
    return outcome


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """Turns what cannot be done here into `Skip`."""
    try:
        yield
    except (permissions.NotHere, PermissionError) as error:
        raise Skip(str(error)) from None


def campaign(
    work: pathlib.Path, store: Store, checkout: pathlib.Path, only: list[str] | None
) -> None:
    """Tries the accidents that have no record yet, or those that are named."""
    for module in MODULES:
        importlib.import_module(f'tools.campaign.accidents.{module}')
    for name in only or ACCIDENTS:
        if (name in store.records and not only) or not store.time_left:
            continue
        store.add(name, meet(ACCIDENTS[name], work, checkout))
    print(f'{len(store.records)} accidents: {dict(store.tally())}')


def meet(
    function: Callable[[Place], Outcome], work: pathlib.Path, checkout: pathlib.Path
) -> dict[str, object]:
    """One accident in an empty folder: its record."""
    folder = work / function.__name__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        outcome = function(Place(folder, checkout))
    except Skip as reason:
        outcome = Outcome('skipped', str(reason))
    except Exception as error:  # of the accident itself: it is told, and the others are tried
        traceback.print_exc()
        outcome = Outcome('tool failed', f'{type(error).__name__}: {error}')
    text = outcome.text.replace(f'{folder}{os.sep}', '')
    places = {folder: 'HERE', work: 'WORK', checkout: 'CHECKOUT', ROOT: 'TOOLS', sys.prefix: 'ENV'}
    for place, name in places.items():  # no paths of one machine go into the results
        text = text.replace(str(place), name)
    text = ' '.join(text.split())
    what = ' '.join((function.__doc__ or '').split()).rstrip('.')
    return {'verdict': outcome.verdict, 'code': outcome.code, 'what': what, 'text': text}
