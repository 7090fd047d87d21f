"""The loop under a resume that asks for other steps or evaluations, and from given networks."""

import jax
import numpy as np
import pytest

from dtql_jax.training import loop
from dtql_jax.training.progress import fresh_progress
from dtql_jax.types import Stopped
from tests.helpers import toy, toy_run

FIRST = 6  # the updates of the first phase; the second has 12, with an evaluation every 4


def at_end(folder, engine, resume=False):
    """A run to its end, with its trainer and its progress."""
    trainer = toy_run.trainer(folder, engine)
    return trainer, trainer.run(resume)


def evaluations(folder):
    return {(row['step'], row['seed']): row for row in toy_run.rows(folder, 'eval')}


def assert_common(folder, progress, whole, whole_progress):
    """The same arrays at the end, and the same evaluations where both have one."""
    assert toy.equal(progress.state, whole_progress.state)
    assert toy.equal(progress.sums, whole_progress.sums)
    assert toy.equal(progress.snapshot, whole_progress.snapshot)
    ours, theirs = evaluations(folder), evaluations(whole)
    assert theirs.items() <= ours.items()


def assert_best_of_rows(folder, progress):
    for i, seed in enumerate(toy_run.SEEDS):
        rows = [row for row in toy_run.rows(folder, 'eval') if row['seed'] == seed]
        best = max(rows, key=lambda row: row['eval/score'])
        assert progress.best_step[i] == best['step']
        assert np.float32(best['eval/score']) == progress.best_score[i]
        assert np.array(progress.best['kernel'][i]).sum() == progress.best_score[i]


def cut(folder, engine, stop, monkeypatch):
    """A run that was stopped at a step; None: at its end."""
    if stop is None:
        at_end(folder, engine)
        return
    with monkeypatch.context() as patch:
        patch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
        trainer = toy_run.trainer(folder, engine)
        trainer.report = toy_run.StopsAt(trainer.stop, stop)
        with pytest.raises(Stopped):
            trainer.run()


@pytest.mark.parametrize('stop', [None, 3, 11])
@pytest.mark.parametrize('steps', [14, 15, 20])
def test_run__more_steps_end_with_the_bits_of_a_run_that_was_asked_for_them(
    engine, tmp_path, monkeypatch, stop, steps
):
    """The end of the first request is on the grid of evaluations, or was not: 13 is not."""
    short, long = toy.changed(engine, steps=13), toy.changed(engine, steps=steps)
    cut(tmp_path / 'run', short, stop, monkeypatch)
    _, progress = at_end(tmp_path / 'run', long, resume=True)
    _, whole = at_end(tmp_path / 'whole', long)
    assert_common(tmp_path / 'run', progress, tmp_path / 'whole', whole)
    assert_best_of_rows(tmp_path / 'run', progress)
    extra = {step for step, _ in evaluations(tmp_path / 'run')}
    extra -= {step for step, _ in evaluations(tmp_path / 'whole')}
    assert extra == ({FIRST + 13} if stop is None else set())


@pytest.mark.parametrize('steps', [5, 7, 8])
def test_run__fewer_steps_end_with_the_bits_of_a_run_that_was_asked_for_them(
    engine, tmp_path, monkeypatch, steps
):
    """Update 11 has been made: 5 of the second phase, whose end may be there or later."""
    cut(tmp_path / 'run', engine, 11, monkeypatch)
    short = toy.changed(engine, steps=steps)
    trainer, progress = at_end(tmp_path / 'run', short, resume=True)
    plain, whole = at_end(tmp_path / 'whole', short)
    toy_run.assert_same_run(tmp_path / 'run', trainer, progress, (tmp_path / 'whole', plain, whole))


@pytest.mark.parametrize('every', [2, 3, 50])
def test_run__evaluations_more_or_less_often_change_no_update(engine, tmp_path, monkeypatch, every):
    cut(tmp_path / 'run', engine, 11, monkeypatch)
    other = toy.changed(engine, eval_every=every)
    _, progress = at_end(tmp_path / 'run', other, resume=True)
    _, whole = at_end(tmp_path / 'whole', other)
    assert toy.equal(progress.state, whole.state)
    assert_best_of_rows(tmp_path / 'run', progress)
    theirs = {key for key in evaluations(tmp_path / 'whole') if key[0] > 11}
    assert {key for key in evaluations(tmp_path / 'run') if key[0] > 11} == theirs
    rows = toy_run.rows(tmp_path / 'run', 'metrics')
    steps = toy_run.steps(tmp_path / 'run', 'metrics')
    assert steps == sorted(set(steps))
    assert all(np.isfinite(row['net/loss']) for row in rows)


def test_run__each_update_is_in_one_row_of_metrics(engine, tmp_path, monkeypatch):
    """`net/step` is the mean of the updates' numbers, so the rows tell which updates they hold."""
    cut(tmp_path / 'run', toy.changed(engine, steps=7), None, monkeypatch)
    at_end(tmp_path / 'run', toy.changed(engine, steps=20, eval_every=3), resume=True)
    begin = 0
    for row in toy_run.rows(tmp_path / 'run', 'metrics'):
        if row['seed'] == toy_run.SEEDS[0]:
            assert row['net/step'] == pytest.approx((begin + row['step'] - 1) / 2)
            begin = row['step']
    assert begin == FIRST + 20


def test_run__starts_from_given_networks_and_all_else_is_new(engine, tmp_path):
    _, other = at_end(tmp_path / 'other', engine)
    networks = toy.bits({'params': other.state.params, 'target': other.state.target})
    fresh, plain = fresh_progress(engine, networks), fresh_progress(engine)
    assert toy.equal(fresh.state.params, networks['params'])
    assert toy.equal(fresh.state.target, networks['target'])
    kept = ('opt', 'hparams', 'key', 'step')
    assert all(toy.equal(getattr(fresh.state, k), getattr(plain.state, k)) for k in kept)
    assert toy.equal(fresh.best, networks['params']['net'])


def test_run__a_resume_does_not_need_the_networks_again(engine, tmp_path, monkeypatch):
    _, other = at_end(tmp_path / 'other', engine)
    networks = toy.bits({'params': other.state.params, 'target': other.state.target})
    before = toy.bits(jax.tree.map(np.copy, networks))
    plain = toy_run.trainer(tmp_path / 'whole', engine)
    whole = plain.run(networks=networks)
    assert not toy.equal(whole.state.params, other.state.params)
    assert toy.equal(networks, before)  # no update wrote into them
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    trainer = toy_run.trainer(tmp_path / 'run', engine)
    trainer.report = toy_run.StopsAt(trainer.stop, 1)
    with pytest.raises(Stopped):
        trainer.run(networks=networks)
    again, progress = at_end(tmp_path / 'run', engine, resume=True)
    toy_run.assert_same_run(tmp_path / 'run', again, progress, (tmp_path / 'whole', plain, whole))
