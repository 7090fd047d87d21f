"""Runs that are struck by signals again and again, and must end as if they had not been.

Of twelve strikes ten are SIGKILL, one is SIGTERM, one SIGINT. A strike comes at a random time, or
some milliseconds after a moment that is hard to survive, told by what is on the disk. After each
strike the run is resumed; after at most `STRIKES` it goes on to its end.
"""

import functools
import os
import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable

from tools.campaign import victim
from tools.campaign.processes import LIMIT_S, Child, Ended
from tools.campaign.store import Store

STRIKES = 10  # of one run, at most
TURN = 12  # strikes, of which the sixth is SIGTERM and the last SIGINT
STOP_S = 10.0  # within which a process that was asked to stop has ended
LINGER_S = 0.03  # the most between a moment and its strike


def saving(folder: pathlib.Path) -> bool:
    """A save is under way."""
    try:
        return any('tmp' in entry.name for entry in os.scandir(folder / 'checkpoints'))
    except OSError:
        return False


def evaluating(folder: pathlib.Path) -> bool:
    """The rows of updates are ahead of those of evaluations, with an evaluation due between."""
    steps = [
        max((row['step'] for row in victim.rows(folder, log) if isinstance(row, dict)), default=0)
        for log in victim.LOGS
    ]
    return steps[0] > steps[1] and steps[0] in victim.EVALUATED


def reporting(folder: pathlib.Path) -> bool:
    """The last evaluation has its rows."""
    found = victim.rows(folder, 'eval')
    return bool(found) and isinstance(found[-1], dict) and found[-1]['step'] == victim.LAST


MOMENTS: dict[str, Callable[[pathlib.Path], bool]] = {
    'save': saving,
    'evaluation': evaluating,
    'report': reporting,
}
# A third of the strikes at any time, as many in saves; a few in the first half second.
DRAWN = ('any',) * 4 + ('save',) * 4 + ('evaluation',) * 2 + ('start', 'report')


def campaign(work: pathlib.Path, store: Store, count: int, seed: int) -> None:
    """Strikes runs until `count` SIGKILLs have been made, and a tenth as many of each other."""
    whole, life = undisturbed(work)
    number = 0
    while (struck := _struck(store)) < count * TURN // 10 and store.time_left:
        while (name := f'run {number}') in store.records:
            number += 1
        rng = random.Random(f'{seed}/{number}')
        left = min(STRIKES, count * TURN // 10 - struck)
        store.add(name, Victim(work, f'run-{number}', life).suffer(rng, struck, left, whole))
    print(f'{_struck(store)} strikes: {dict(store.tally())}')


def _struck(store: Store) -> int:
    """The strikes so far."""
    return sum(len(record['strikes']) for record in store.records.values())


def undisturbed(work: pathlib.Path) -> tuple[dict[str, str], float]:
    """The facts of a run that nothing disturbs, and the seconds that it lives."""
    out = work / 'whole'
    shutil.rmtree(out, ignore_errors=True)
    for _ in range(2):  # the second finds its programs compiled
        shutil.rmtree(out, ignore_errors=True)
        ended = Child(functools.partial(victim.train, out), work / 'whole-train', work).wait()
        if ended.verdict != 'done':
            raise SystemExit(f'the undisturbed run failed: {ended.verdict}: {ended.err}')
    facts = facts_of(out)
    if isinstance(facts, Ended):
        raise SystemExit(f'the undisturbed run cannot be read: {facts.err}')
    return facts, ended.seconds


def facts_of(out: pathlib.Path) -> dict[str, str] | Ended:
    """The facts of a run, read in a process of its own; how that ended where it failed."""
    import json

    to = out.with_name(f'{out.name}-facts.json')
    to.unlink(missing_ok=True)
    log = out.with_name(f'{out.name}-facts')
    ended = Child(functools.partial(victim.write_facts, out, to), log).wait()
    return json.loads(to.read_text()) if ended.verdict == 'done' else ended


class Victim:
    """One run that is struck, resumed and judged."""

    def __init__(self, work: pathlib.Path, name: str, life: float):
        self.work, self.out, self.life = work, work / name, life
        self.strikes: list[str] = []

    def suffer(self, rng: random.Random, first: int, most: int, whole: dict) -> dict:
        """Strikes the run at most so often, lets it end, and compares; the record of it."""
        shutil.rmtree(self.out, ignore_errors=True)
        ended = None
        while ended is None and len(self.strikes) < most:
            turn = (first + len(self.strikes)) % TURN
            number = {5: signal.SIGTERM, 11: signal.SIGINT}.get(turn, signal.SIGKILL)
            ended = self.strike(rng, number)
        verdict, text = self.judge(ended or self.start().wait(), whole)
        if verdict == 'same':
            for path in self.work.glob(f'{self.out.name}*'):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return {'verdict': verdict, 'text': text, 'strikes': self.strikes}

    def start(self) -> Child:
        """A process that begins or resumes the run."""
        log = self.work / f'{self.out.name}-{len(self.strikes)}'
        return Child(functools.partial(victim.train, self.out), log, self.work)

    def strike(self, rng: random.Random, number: int) -> Ended | None:
        """One process and its strike; how it ended where that was not by the strike."""
        moment = rng.choice(DRAWN)
        child = self.start()
        if moment in MOMENTS:
            wait_s = rng.uniform(0, LINGER_S)
            # What the strike before has left looks like the moment until this process is under way.
            for wanted in (False, True):
                while MOMENTS[moment](self.out) != wanted and not child.over():
                    time.sleep(0.002)
                    if time.monotonic() - child.began > LIMIT_S:
                        return child.wait(0)
        else:
            wait_s = rng.uniform(0, 0.5 if moment == 'start' else self.life)
        end = time.monotonic() + wait_s
        while time.monotonic() < end and not child.over():
            time.sleep(0.001)
        if child.over():
            return child.wait()
        struck_at = time.monotonic()
        child.send(number)
        ended = child.wait()
        name = signal.Signals(number).name
        took = time.monotonic() - struck_at
        self.strikes.append(f'{name} {moment} after {struck_at - child.began:.2f} s: {ended.code}')
        soon = number == signal.SIGKILL or took < STOP_S
        fits = ended.code in (-number, 128 + number, 0) and soon
        return None if fits and ended.verdict != 'traceback' and ended.code else ended

    def judge(self, ended: Ended, whole: dict[str, str]) -> tuple[str, str]:
        """Whether the run has ended as the undisturbed one did."""
        if ended.verdict != 'done':  # to be refused would be no promise here
            verdict = 'not resumed' if ended.verdict == 'refused' else ended.verdict
            return verdict, f'{ended.last} (after {self.strikes[-1:]})'
        facts = facts_of(self.out)
        if isinstance(facts, Ended):
            return 'unreadable', facts.last
        if different := victim.differences(facts, whole):
            return 'different', ', '.join(different)
        left = [entry.name for entry in os.scandir(self.out / 'checkpoints') if 'tmp' in entry.name]
        return ('left over', ', '.join(left)) if left else ('same', f'{len(self.strikes)} strikes')
