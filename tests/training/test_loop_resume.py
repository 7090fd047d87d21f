"""The loop: no clock, no stop, no resume and no evaluation beside training changes a number."""

import time

import numpy as np
import pytest

from dtql_jax.training import loop
from dtql_jax.training.progress import restore_progress
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Stopped
from tests.helpers import toy, toy_run
from tests.helpers.toy import NEVER


@pytest.mark.parametrize(
    ('dispatch_s', 'save_s'), [(0.0, 1e9), (1e9, 1e9), (1e-3, -1.0), (0.0, -1.0)]
)
def test_run__the_clock_decides_no_number(engine, whole, tmp_path, monkeypatch, dispatch_s, save_s):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', dispatch_s)
    monkeypatch.setattr(loop, 'SAVE_SECONDS', save_s)
    trainer = toy_run.trainer(tmp_path, engine)
    progress = trainer.run()
    toy_run.assert_same_run(tmp_path, trainer, progress, whole)
    assert len(trainer.report.rates) >= (18 if dispatch_s == 0 else 5)


def test_run__a_stop_at_any_step_saves_and_a_resume_goes_on(engine, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    trainer, progress = toy_run.stopped_at_each((1, 3, 4, 5, 6, 7, 10, 13, 17), tmp_path, engine)
    toy_run.assert_same_run(tmp_path, trainer, progress, whole)


def test_run__a_stop_during_an_evaluation_leaves_nothing_of_it(engine, whole, tmp_path):
    def interrupted(acting, lanes):
        raise Stopped

    trainer = toy_run.trainer(tmp_path, engine, interrupted)
    for resume in (False, True, True):
        with pytest.raises(Stopped):
            trainer.run(resume)
        assert toy_run.steps(tmp_path, 'metrics') == [4, 6, 10]
        assert toy_run.steps(tmp_path, 'eval') == []
        _, cursor = restore_progress(engine, tmp_path, pytest.fail)
        assert (cursor.step, cursor.evaluated) == (10, 0)
    trainer = toy_run.trainer(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_run__rows_after_the_last_checkpoint_are_written_again(engine, whole, tmp_path):
    def crash(acting, lanes):
        raise RuntimeError('the simulator broke')

    with pytest.raises(RuntimeError, match='broke'):
        toy_run.trainer(tmp_path, engine, crash).run()
    assert toy_run.steps(tmp_path, 'metrics') == [4, 6, 10]
    trainer = toy_run.trainer(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_run__one_that_was_killed_before_its_first_save_starts_again(engine, whole, tmp_path):
    (tmp_path / 'metrics.jsonl').touch()
    trainer = toy_run.trainer(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_run__a_finished_run_may_be_resumed_and_stays_as_it_is(engine, whole, tmp_path):
    toy_run.trainer(tmp_path, engine).run()
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    trainer = toy_run.trainer(tmp_path, engine, pytest.fail)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_run__none_traces_a_phase_again(engine, whole):
    """Last of the runs of this engine: with resumes, stops and dispatches of many sizes."""
    assert engine.traces == toy.TRACED_ONCE


# Evaluations beside training.


class Beside:
    """An evaluation that ends only after training has gone on, where there is any left to do."""

    def __init__(self, folder, engine, stop_at=None):
        self.stop = StopFlag()
        self.trainer = toy_run.trainer(folder, engine, self, self.stop, overlap=True)
        self.trainer.report = toy_run.StopsAt(self.stop, stop_at)
        self.stop_at = stop_at
        self.trained_to = []

    def __call__(self, acting, lanes):
        cursor = self.trainer.cursor
        goal = self.stop_at or min(cursor.playing + 1, self.trainer.total)
        deadline = time.monotonic() + 60
        while cursor.step < goal or (self.stop_at and not self.stop()):
            assert time.monotonic() < deadline, 'training does not go on'
            time.sleep(0.001)
        if self.stop():
            raise Stopped
        self.trained_to.append(cursor.step)
        return toy_run.score_by_params(acting, lanes)


@pytest.mark.usefixtures('sliced')
def test_run__training_goes_on_beside_an_evaluation_and_no_number_changes(engine, whole, tmp_path):
    beside = Beside(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, beside.trainer, beside.trainer.run(), whole)
    assert len(beside.trained_to) == 3
    assert (np.array(beside.trained_to) >= (11, 15, 18)).all()
    assert [step for step, _ in beside.trainer.report.evaluations] == [10, 14, 18]


@pytest.mark.usefixtures('sliced')
@pytest.mark.parametrize('overlap', [False, True])
def test_run__an_evaluation_that_a_stop_cut_off_is_played_again_from_its_snapshot(
    engine, whole, tmp_path, overlap
):
    beside = Beside(tmp_path, engine, stop_at=12)
    with pytest.raises(Stopped):
        beside.trainer.run()
    _, cursor = restore_progress(engine, tmp_path, pytest.fail)
    assert (cursor.step, cursor.playing, cursor.evaluated) == (12, 10, 0)
    assert toy_run.steps(tmp_path, 'eval') == []
    trainer = toy_run.trainer(tmp_path, engine, overlap=overlap)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


@pytest.mark.usefixtures('sliced')
def test_run__an_evaluation_that_fails_beside_training_ends_it(engine, tmp_path):
    def crash(acting, lanes):
        raise RuntimeError('the simulator broke')

    with pytest.raises(RuntimeError, match='broke'):
        toy_run.trainer(tmp_path, engine, crash, overlap=True).run()


@pytest.mark.usefixtures('sliced')
def test_run__a_lane_that_diverges_beside_its_evaluation_is_evaluated_all_the_same(
    fragile, tmp_path
):
    """Also where the evaluation is played again after a stop: it lived when it began."""
    engine = toy_run.with_blows(fragile, NEVER, 11.0, NEVER)
    plain = toy_run.trainer(tmp_path / 'plain', engine)
    whole = (tmp_path / 'plain', plain, plain.run())
    assert toy_run.steps(whole[0], 'eval', toy_run.SEEDS[1]) == [10]
    folder = tmp_path / 'cut'
    beside = Beside(folder, engine, stop_at=12)
    with pytest.raises(Stopped):
        beside.trainer.run()
    trainer = toy_run.trainer(folder, engine, overlap=True)
    toy_run.assert_same_run(folder, trainer, trainer.run(resume=True), whole)
