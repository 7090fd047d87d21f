"""Runs of the toys: trainers, what they leave, and how to stop them at a step."""

import dataclasses

import jax
import numpy as np
import pytest

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.training.loop import Trainer
from dtql_jax.training.progress import restore_progress
from dtql_jax.training.records import Records
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Lane, Stopped
from tests.helpers import toy

SEEDS = (3, 1, 4)


class Report:
    """Remembers what it is told."""

    def __init__(self):
        self.warnings, self.divergences, self.evaluations, self.rates = [], [], [], []
        self.failures = []

    def warn(self, text):
        self.warnings.append(text)

    def compiled(self, phase, seconds):
        pass

    def progress(self, phase, step, total, rate):
        self.rates.append(step)

    def diverged(self, lane, step):
        self.divergences.append((lane.seed, step))

    def failed(self, step, lane, reason):
        self.failures.append((step, lane.seed, reason))

    def evaluated(self, step, lanes, scores, seconds):
        self.evaluations.append((step, [float(score) for score in scores]))


def score_by_params(acting, lanes):
    """An evaluation that depends on the policy's parameters alone."""
    kernel = np.array(jax.device_get(acting['kernel']))
    return {i: {'eval/score': float(kernel[i].sum())} for i in lanes}


def trainer(folder, engine, evaluate=score_by_params, stop=None, overlap=False, callbacks=()):
    """A `Trainer` of a run in `folder`, made where it is absent."""
    folder.mkdir(exist_ok=True)
    stop = stop or StopFlag()
    report = Report()
    records = Records(folder, {}, engine, callbacks, report.warn)
    return Trainer(engine, records, evaluate, report, stop, overlap)


class StopsAt(Report):
    """Asks to stop when the run gets to a step."""

    def __init__(self, stop, step):
        super().__init__()
        self.stop, self.step = stop, step

    def progress(self, phase, step, total, rate):
        if step == self.step:
            self.stop.signal = 15


def stopped_at_each(steps, folder, engine, evaluate=score_by_params):
    """A run that is stopped at each of `steps` and resumed by another trainer."""
    resume = False
    for step in steps:
        stop = StopFlag()
        interrupted = trainer(folder, engine, evaluate, stop)
        interrupted.report = StopsAt(stop, step)
        with pytest.raises(Stopped):
            interrupted.run(resume)
        resume = True
        _, cursor = restore_progress(engine, folder, pytest.fail)
        assert cursor.step == step
    last = trainer(folder, engine, evaluate)
    return last, last.run(resume)


def with_blows(engine, *blows):
    """The engine with other updates that blow its lanes up."""
    other = toy.changed(engine)
    hparams = [{'blow_at': blow} for blow in blows]
    other.lanes = tuple(map(Lane, ['toy'] * len(SEEDS), SEEDS, hparams))
    return other


def rows(folder, log):
    """The rows of a log without their times."""
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in read_jsonl(folder / f'{log}.jsonl')
    ]


def steps(folder, log, seed=SEEDS[0]):
    """The steps of a seed's rows."""
    return [row['step'] for row in rows(folder, log) if row['seed'] == seed]


def assert_same_run(folder, trainer, progress, whole):
    """The same numbers as an undisturbed run: files, arrays and cursor."""
    for log in ('metrics', 'eval'):
        assert rows(folder, log) == rows(whole[0], log)
    assert toy.equal(progress, whole[2])
    changing = {'elapsed_s': 0.0, 'offsets': {}, 'digests': {}}
    ours, theirs = (dataclasses.replace(t.cursor, **changing) for t in (trainer, whole[1]))
    assert ours == theirs
