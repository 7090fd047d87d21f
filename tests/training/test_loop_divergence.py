"""The loop: lanes that diverge, and those beside them."""

import jax
import numpy as np
import pytest

from dtql_jax.report.tables import score_table
from dtql_jax.training import loop
from tests.helpers import toy, toy_run


@pytest.mark.parametrize('seconds', [0.0, 1e9])
def test_run__a_lane_that_diverges_is_listed_and_the_others_go_on(
    fragile, whole, tmp_path, monkeypatch, seconds
):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', seconds)
    trainer = toy_run.trainer(tmp_path, fragile)
    progress = trainer.run()
    assert trainer.cursor.diverged == {'1': 8}
    assert trainer.report.divergences == [(1, 8)]
    for log in ('metrics', 'eval'):
        others = [row for row in toy_run.rows(whole[0], log) if row['seed'] != 1]
        assert [row for row in toy_run.rows(tmp_path, log) if row['seed'] != 1] == others
    for field in ('params', 'target', 'opt', 'key', 'step'):
        ours, theirs = getattr(progress.state, field), getattr(whole[2].state, field)
        assert toy.equal(toy.lane(ours, 0, 2), toy.lane(theirs, 0, 2))
    assert toy.bits(progress.state).step.tolist() == [18, 8, 18]
    assert toy_run.steps(tmp_path, 'metrics', 1) == [4, 6, 10]
    last = [row for row in toy_run.rows(tmp_path, 'metrics') if row['seed'] == 1][-1]
    assert last['diverged_at'] == 8
    assert last['net/step'] == 6.5  # of the updates 6 and 7 that it made
    assert toy_run.steps(tmp_path, 'eval', 1) == []
    assert jax.device_get(progress.best_score)[1] == -np.inf


@pytest.mark.parametrize('blows', [(8, 3, 9), (0, 0, 0), (10, 10, 2), (4, 5, 6)])
def test_run__ends_where_all_lanes_diverge(fragile, tmp_path, monkeypatch, blows):
    engine = toy_run.with_blows(fragile, *map(float, blows))
    results = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(loop, 'DISPATCH_SECONDS', seconds)
        folder = tmp_path / str(seconds)
        trainer = toy_run.trainer(folder, engine)
        results.append((folder, trainer, trainer.run()))
        assert trainer.cursor.diverged == {str(i): at for i, at in enumerate(blows)}
        again = toy_run.trainer(folder, engine, pytest.fail)
        toy_run.assert_same_run(folder, again, again.run(resume=True), results[0])
    toy_run.assert_same_run(*results[1], results[0])
    diverged = {int(i): at for i, at in trainer.cursor.diverged.items()}
    table = score_table(engine.lanes, toy_run.rows(folder, 'eval'), 12.3, diverged)
    for seed, at in zip(toy_run.SEEDS, blows, strict=True):
        assert f'toy seed {seed}: diverged at update {at}' in table


@pytest.mark.parametrize('blow', [0, 4, 6, 9, 10])
def test_run__every_lane_that_diverges_has_one_row_that_says_so(fragile, tmp_path, blow):
    """Also where the first update of a window is the one: rows end at 4, 6, 10, 14, 18."""
    trainer = toy_run.trainer(tmp_path, toy_run.with_blows(fragile, -1.0, float(blow), -1.0))
    trainer.run()
    told = [row for row in toy_run.rows(tmp_path, 'metrics') if 'diverged_at' in row]
    assert [(row['seed'], row['diverged_at']) for row in told] == [(1, blow)]
    assert ('net/loss' in told[0]) == (blow == 9)
    assert toy_run.steps(tmp_path, 'metrics', 1)[-1] == told[0]['step'] > blow


def test_run__divergence_survives_a_resume(fragile, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    plain = toy_run.trainer(tmp_path / 'plain', fragile)
    whole = (tmp_path / 'plain', plain, plain.run())
    trainer, progress = toy_run.stopped_at_each((5, 9, 10, 13), tmp_path / 'cut', fragile)
    toy_run.assert_same_run(tmp_path / 'cut', trainer, progress, whole)
    assert fragile.traces == toy.TRACED_ONCE
