"""The part of a run in the environment: its order, its resumes, its lanes, its failures."""

import jax
import numpy as np
import pytest

from dtql_jax.training import loop
from dtql_jax.training.progress import restore_progress
from dtql_jax.types import Stopped, UserError
from tests.helpers import toy, toy_online, toy_run

pytestmark = pytest.mark.usefixtures('quick_compile')

LANES = toy.lanes(*toy_run.SEEDS)


@pytest.fixture(scope='module')
def engine():
    return toy_online.engine(LANES)


def run(folder, engine, resume=False, **options):
    """The trainer and the progress of a run to its end."""
    with toy_online.trainer(folder, engine, **options) as trainer:
        return trainer, trainer.run(resume)


@pytest.fixture(scope='module')
def whole(engine, tmp_path_factory):
    """A run that nothing disturbed: its folder, trainer and progress."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, *run(folder, engine)


def stop(folder, engine, step, resume=False, **options):
    """A run that is stopped at a step."""
    with toy_online.trainer(folder, engine, **options) as trainer:
        trainer.report = toy_run.StopsAt(trainer.stop, step)
        with pytest.raises(Stopped):
            trainer.run(resume)


def test_advance__rows_and_evaluations_go_on(whole):
    folder, trainer, progress = whole
    assert toy_run.steps(folder, 'eval') == [10, 14, 18, 22, 26, 28]
    assert toy_run.steps(folder, 'metrics') == [4, 6, 10, 14, 18, 22, 26, 28]
    rows = [row for row in toy_run.rows(folder, 'metrics') if row['phase'] == 'online']
    assert {row['step'] for row in rows} == {22, 26, 28}
    # `net/step` is the mean of the updates' numbers: there is one for each step.
    assert [row['net/step'] for row in rows if row['seed'] == 3] == [19.5, 23.5, 26.5]
    assert not trainer.report.warnings
    assert jax.device_get(progress.state.step).tolist() == [28] * 3


def test_advance__the_rows_are_what_the_lanes_did(engine, whole):
    """Each walk is a chain, whose rewards went through the transform."""
    _, trainer, progress = whole
    buffer, ended = jax.device_get(progress.buffer), 0
    for lane in range(3):
        for i in range(9):
            goes_on = (buffer.next_obs[lane, i] == buffer.obs[lane, i + 1]).all()
            assert goes_on == (buffer.next_obs[lane, i, 2] > 0)  # no steps are left at the end
            ended += not goes_on
    assert ended
    np.testing.assert_array_equal(buffer.reward, np.float32(buffer.next_obs[..., 0] / 2))
    over = buffer.next_obs[..., 2] == 0
    np.testing.assert_array_equal(buffer.mask == 0, over & (buffer.next_obs[..., 0] > 0))
    act = jax.vmap(engine.agent.act, (0, 0, None))
    last = trainer.online._held
    expected = act(engine.agent.acting(progress.state), last.obs, None)
    np.testing.assert_allclose(last.action, expected, rtol=1e-6)


def test_advance__episodes_are_told(whole):
    folder, _, progress = whole
    rows = [row for row in toy_run.rows(folder, 'metrics') if row['phase'] == 'online']
    buffer = jax.device_get(progress.buffer)
    for lane, seed in enumerate(toy_run.SEEDS):
        mine = [row for row in rows if row['seed'] == seed]
        over = np.flatnonzero(buffer.next_obs[lane, :, 2] == 0)
        assert sum(row.get('explore/episodes', 0) for row in mine) == len(over)
        first = next(row for row in mine if 'explore/episodes' in row)
        if first['explore/episodes'] == 1:
            length = over[0] + 1
            assert first['explore/length'] == length
            returns = 2 * buffer.reward[lane, :length].astype(float).sum()
            assert first['explore/return'] == pytest.approx(returns, rel=1e-5)


@pytest.mark.parametrize('steps', [(17, 19, 21), (18, 20, 27), (22, 23, 24, 25, 26)])
def test_begin__a_run_resumes_at_any_step_with_the_same_bits(
    engine, whole, tmp_path, monkeypatch, steps
):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    for i, step in enumerate(steps):
        stop(tmp_path, engine, step, resume=i > 0)
        saved, cursor = restore_progress(engine, tmp_path, pytest.fail)
        assert cursor.step == step
        assert saved.buffer.reward.shape == (3, 10)
    trainer, progress = run(tmp_path, engine, resume=True)
    toy_run.assert_same_run(tmp_path, trainer, progress, whole)
    assert not trainer.report.warnings


def test_all_phases__the_part_on_data_is_that_of_a_run_without(whole, tmp_path):
    alone = toy.engine(LANES)
    plain = toy_run.trainer(tmp_path, alone)
    plain.run()
    for log in ('metrics', 'eval'):
        before = [row for row in toy_run.rows(whole[0], log) if row['step'] <= 18]
        assert toy_run.rows(tmp_path, log) == before


def test_begin__a_finished_run_goes_on_and_then_for_longer(engine, whole, tmp_path):
    toy_run.trainer(tmp_path, toy.engine(LANES)).run()
    run(tmp_path, toy_online.engine(LANES), resume=True)
    trainer, progress = run(tmp_path, engine, resume=True)
    toy_run.assert_same_run(tmp_path, trainer, progress, whole)
    longer = toy.engine(LANES, online_steps=14)
    _, progress = run(tmp_path, longer, resume=True)
    _, expected = run(tmp_path / 'longer', longer)
    assert toy.equal(progress.state, expected.state)
    assert toy.equal(progress.buffer, expected.buffer)


def test_begin__the_end_may_come_nearer(engine, tmp_path, monkeypatch):
    shorter = toy.engine(LANES, online_steps=6)
    expected = run(tmp_path / 'whole', shorter)
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    stop(tmp_path / 'run', engine, 24)
    found = run(tmp_path / 'run', shorter, resume=True)
    toy_run.assert_same_run(tmp_path / 'run', *found, (tmp_path / 'whole', *expected))


def test_advance__a_lane_does_not_depend_on_those_beside_it(whole, tmp_path):
    """One by one, as on a CPU, it has the bits of a run of its own."""
    _, alone = run(tmp_path, toy_online.engine(toy.lanes(toy_run.SEEDS[1])))
    assert toy.equal(toy.lane(whole[2].buffer, 1), alone.buffer)
    assert toy.equal(toy.lane(whole[2].state, 1), alone.state)


def test_advance__lanes_may_advance_together(whole, tmp_path):
    _, together = run(tmp_path, toy_online.engine(LANES, one_by_one=False))
    for ours, theirs in zip(
        *(jax.tree.leaves(jax.device_get(p.buffer)) for p in (together, whole[2])), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_advance__a_lane_that_diverges_stops_alone(whole, tmp_path):
    lanes = toy.lanes(*toy_run.SEEDS, at1={'blow_at': 21.0})
    trainer, progress = run(tmp_path, toy_online.engine(lanes))
    assert trainer.cursor.diverged == {'1': 21}
    assert jax.device_get(progress.state.step).tolist() == [28, 21, 28]
    for lane in (0, 2):
        assert toy.equal(toy.lane(progress.buffer, lane), toy.lane(whole[2].buffer, lane))
    assert [row['step'] for row in toy_run.rows(tmp_path, 'metrics') if row['seed'] == 1][-1] == 22
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(toy.bits(progress.state.params)))


def test_advance__a_simulator_that_fails_loses_nothing(engine, whole, tmp_path):
    with pytest.raises(UserError) as error:
        run(tmp_path, engine, make_env=toy_online.Failing)
    assert str(error.value) == (
        'the simulator failed, its step failed: ValueError: the joint broke: toy seed 3, step 3 in '
        'the environment; a checkpoint is saved: go on with `resume`'
    )
    assert restore_progress(engine, tmp_path, pytest.fail)[1].step == 21
    trainer, progress = run(tmp_path, engine, resume=True)
    toy_run.assert_same_run(tmp_path, trainer, progress, whole)


def test_begin__a_simulator_that_does_not_repeat_is_told(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    stop(tmp_path, engine, 20, make_env=toy_online.Forgetful)
    trainer, progress = run(tmp_path, engine, resume=True, make_env=toy_online.Forgetful)
    (warning,) = trainer.report.warnings
    assert warning.startswith('the simulator did not repeat the episodes under way (toy seed 3, ')
    assert jax.device_get(progress.state.step).tolist() == [28] * 3
