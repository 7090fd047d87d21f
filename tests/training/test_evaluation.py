"""An evaluation that fails, for a lane or as a whole, and the training beside one."""

import _thread
import types

import jax
import numpy as np
import pytest

from dtql_jax.training import loop
from dtql_jax.training.evaluation import Evaluation, scores_of
from dtql_jax.training.progress import fresh_progress, restore_progress
from dtql_jax.types import UserError
from tests.helpers import toy, toy_run

REASON = 'action not finite: seed 1, episode 0, step 7'


def poisoned(acting, lanes):
    """As `score_by_params`, but the lane in the middle always fails."""
    rows = toy_run.score_by_params(acting, lanes)
    return rows | {1: {'eval/failed': REASON}}


@pytest.mark.parametrize('overlap', [False, True])
def test_run__a_failed_lane_concerns_no_other(engine, whole, tmp_path, overlap):
    trainer = toy_run.trainer(tmp_path, engine, poisoned, overlap=overlap)
    progress = trainer.run()
    ours, theirs = (
        [row for row in toy_run.rows(folder, 'eval') if row['seed'] != 1]
        for folder in (tmp_path, whole[0])
    )
    assert ours == theirs
    assert toy_run.rows(tmp_path, 'metrics') == toy_run.rows(whole[0], 'metrics')
    for i in (0, 2):
        assert toy.equal(toy.lane(progress, i), toy.lane(whole[2], i))
    # The lane trains on, and has no best policy.
    assert toy.equal(progress.state, whole[2].state)
    assert jax.device_get(progress.best_score)[1] == -np.inf
    mine = [row for row in toy_run.rows(tmp_path, 'eval') if row['seed'] == 1]
    assert mine == [
        {'step': step, 'variant': 'toy', 'seed': 1, 'eval/failed': REASON} for step in (10, 14, 18)
    ]
    assert trainer.report.failures == [(step, 1, REASON) for step in (10, 14, 18)]
    assert all(np.isnan(scores[1]) for _, scores in trainer.report.evaluations)


def test_run__a_resume_does_not_die_of_a_failed_lane(engine, tmp_path):
    undisturbed = toy_run.trainer(tmp_path / 'whole', engine, poisoned)
    progress = undisturbed.run()
    folder = tmp_path / 'stopped'
    resumed = toy_run.stopped_at_each((10, 14), folder, engine, poisoned)
    toy_run.assert_same_run(folder, *resumed, (tmp_path / 'whole', undisturbed, progress))


def test_run__what_ends_an_evaluation_is_saved_and_played_again(engine, whole, tmp_path):
    def hang(acting, lanes):
        raise UserError('a simulator hangs')

    with pytest.raises(UserError, match='a simulator hangs; a checkpoint is saved: go on with `re'):
        toy_run.trainer(tmp_path, engine, hang).run()
    _, cursor = restore_progress(engine, tmp_path, pytest.fail)
    assert (cursor.step, cursor.playing, cursor.evaluated) == (10, 10, 0)
    again = toy_run.trainer(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, again, again.run(resume=True), whole)


def test_run__a_thread_that_cannot_start_leaves_a_checkpoint(engine, whole, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    def begin_without_threads(progress):
        with monkeypatch.context() as patch:
            patch.setattr(_thread, 'start_new_thread', refuse)
            return begin(progress)

    trainer, saved = toy_run.trainer(tmp_path, engine), []
    trainer.save = lambda progress: saved.append(trainer.cursor.playing)
    begin, trainer.begin_evaluation = trainer.begin_evaluation, begin_without_threads
    with pytest.raises(UserError, match='the evaluation cannot start its thread'):
        trainer.run()
    assert saved == [0, 10]


def test_Evaluation__plays_in_a_thread_of_its_own():
    evaluation = Evaluation(lambda acting, lanes: dict.fromkeys(lanes, acting), {}, [2, 0])
    rows, seconds = evaluation.result()
    assert rows == {2: {}, 0: {}}
    assert seconds >= 0
    assert evaluation.done()
    assert evaluation.leave()


def test_scores_of__tells_failed_lanes_from_absent_ones():
    scores = scores_of({2: {'eval/score': 1.5}, 0: {'eval/failed': REASON}}, 'abc')
    np.testing.assert_array_equal(scores, np.array([np.nan, -np.inf, 1.5], np.float32))


@pytest.mark.parametrize('playing', [False, True])
def test_advance__slices_follow_the_rate_without_episodes(engine, tmp_path, monkeypatch, playing):
    """So an evaluation that slows the training down does not make its slices ever shorter."""
    trainer, asked = toy_run.trainer(tmp_path, engine), []

    def advance(phase, state, sums, n, alive, slices):
        asked.append((n, slices))
        return state, sums, np.where(alive, n, 0)

    monkeypatch.setattr(engine, 'advance', advance)
    clock = iter(np.arange(0.0, 100.0, 0.1))
    monkeypatch.setattr(loop, 'time', types.SimpleNamespace(monotonic=lambda: next(clock)))
    trainer.rate = trainer._pace = 1000.0
    trainer._size, trainer._playing = 10_000, playing
    phase, progress = trainer.phases[1], fresh_progress(engine)
    for _ in range(3):
        trainer.advance(phase, progress, 50)
    assert asked == [(50, 10 if playing else 0)] * 3
    assert trainer.rate == pytest.approx(500)
    assert trainer._pace == pytest.approx(1000 if playing else 500)
