"""Faults in the files of a run: each is to be recovered from, or refused in one line.

A fault is made in a copy of a run that was stopped half-way, which is then resumed, or of one that
is finished, whose policies are then evaluated. Verdicts:

- recovered: the end is that of the undisturbed run, in each bit, row and setting;
- told: an evaluation's result differs, since it fell back on an older checkpoint, and a warning
  says so;
- refused: exit code 2 and one line, and no file of the folder was lost or changed;
- silent: exit code 0, and something differs;
- destroyed: refused, but a file was lost or changed;
- traceback, hang, exit N.
"""

import functools
import hashlib
import pathlib
import random
import shutil
import signal
import time

from tools.campaign import damage, kills, victim
from tools.campaign.processes import Child, Ended
from tools.campaign.store import Store

HANG_S = 60.0
EVALUATES = 0.3  # of the faults that an evaluation may meet


def campaign(work: pathlib.Path, store: Store, count: int, seed: int) -> None:
    """Makes `count` faults."""
    subject = Subject(work)
    for number in range(count):
        name = f'fault {number}'
        if name in store.records or not store.time_left:
            continue
        store.add(name, subject.suffer(random.Random(f'{seed}/{number}'), number))
    print(f'{len(store.records)} faults: {dict(store.tally())}')


class Subject:
    """A run that is stopped half-way and a finished one, and what an undisturbed one gives."""

    def __init__(self, work: pathlib.Path):
        self.work = work
        self.facts, life = kills.undisturbed(work)
        self.finished, self.half = work / 'whole', work / 'half'
        self._stop_half_way(life)
        self.evaluated = self.evaluate(self.finished, 'whole-evaluate')[1]
        (self.finished / 'reeval.jsonl').unlink()

    def _stop_half_way(self, life: float) -> None:
        """Makes the run that is stopped: after its second evaluation, with two checkpoints."""
        shutil.rmtree(self.half, ignore_errors=True)
        train = functools.partial(victim.train, self.half)
        child = Child(train, self.work / 'half-train', self.work)
        while len(victim.rows(self.half, 'eval')) < 4 and not child.over():
            time.sleep(0.002)
        child.send(signal.SIGTERM)
        ended = child.wait()
        if ended.code != 128 + signal.SIGTERM or len(damage.checkpoints(self.half)) < 2:
            raise SystemExit(f'the run could not be stopped half-way: {ended}')

    def evaluate(self, run: pathlib.Path, name: str) -> tuple[Ended, list]:
        """Evaluates the policies of a run; how that ended, and the rows."""
        flags = ('evaluate', f'--run={run}', '--episodes=2', '--eval_seed=5')
        work = functools.partial(victim.command, *flags)
        ended = Child(work, self.work / name, self.work).wait(HANG_S)
        return ended, victim.rows(run, 'reeval')

    def suffer(self, rng: random.Random, number: int) -> dict:
        """One fault and what came of it."""
        fault = rng.choices(list(damage.FAULTS), list(damage.FAULTS.values()))[0]
        evaluates = fault in damage.READ and rng.random() < EVALUATES
        run = self.work / f'fault-{number}'
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.finished if evaluates else self.half, run)
        what = fault(rng, run)
        if what is None:
            shutil.rmtree(run)
            return {'verdict': 'skipped', 'text': f'{fault.__name__}: no such file'}
        before = digests(run)
        verdict, text = self._evaluated(run) if evaluates else self._resumed(run)
        if verdict == 'refused' and (lost := lost_files(before, digests(run))):
            verdict, text = 'destroyed', f'{", ".join(lost)[:200]} ({text})'
        if verdict in ('recovered', 'refused', 'told'):
            for path in self.work.glob(f'{run.name}*'):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        then = 'evaluate' if evaluates else 'resume'
        text = text.replace(str(run), 'RUN')
        return {
            'verdict': verdict,
            'text': text,
            'fault': fault.__name__,
            'what': what,
            'then': then,
        }

    def _resumed(self, run: pathlib.Path) -> tuple[str, str]:
        """What came of a resume."""
        train = functools.partial(victim.train, run)
        ended = Child(train, self.work / f'{run.name}-train', self.work).wait(HANG_S)
        if ended.verdict != 'done':
            return ended.verdict, ended.last
        return self.judge(run, ended)

    def judge(self, run: pathlib.Path, ended: Ended) -> tuple[str, str]:
        """Whether a run that was resumed to its end ended as the undisturbed one."""
        facts = kills.facts_of(run)
        if isinstance(facts, Ended):
            return 'silent', f'the finished run cannot be read: {facts.last}'
        if different := victim.differences(facts, self.facts):
            return 'silent', f'{", ".join(different)} differ'
        return 'recovered', '; '.join(ended.warnings[:1]) or 'as if nothing had been'

    def _evaluated(self, run: pathlib.Path) -> tuple[str, str]:
        """What came of an evaluation."""
        ended, rows = self.evaluate(run, f'{run.name}-evaluate')
        if ended.verdict != 'done':
            return ended.verdict, ended.last
        if rows == self.evaluated:
            return 'recovered', '; '.join(ended.warnings[:1]) or 'as if nothing had been'
        if ended.warnings:
            return 'told', ended.warnings[0]
        return 'silent', f'{rows} instead of {self.evaluated}'


def digests(run: pathlib.Path) -> dict[str, str]:
    """The digest of each file."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in damage.files(run)
    }


def lost_files(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The files that are gone or have other contents; a lock may come and go."""
    return [name for name in before if after.get(name) != before[name] and 'lock' not in name]
