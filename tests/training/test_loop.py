"""The loop: what is written when, what is best, what a phase does before it begins."""

import dataclasses
import io
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql
from dtql_jax.report.console import Console
from dtql_jax.training import loop
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import fresh_progress, means, restore_progress
from dtql_jax.types import Phase, Rare, Spec
from tests.helpers import toy, toy_run, transfers


def test_run__rows_and_evaluations_stand_at_the_documented_steps(whole):
    folder, trainer, _ = whole
    assert toy_run.steps(folder, 'metrics') == [4, 6, 10, 14, 18]
    assert toy_run.steps(folder, 'eval') == [10, 14, 18]
    for log in ('metrics', 'eval'):
        found = toy_run.rows(folder, log)
        assert [row['seed'] for row in found] == [*toy_run.SEEDS] * (len(found) // 3)
    assert [row['phase'] for row in toy_run.rows(folder, 'metrics')] == ['pretrain'] * 6 + [
        'train'
    ] * 9
    assert [step for step, _ in trainer.report.evaluations] == [10, 14, 18]
    assert not trainer.report.warnings


@pytest.mark.parametrize(
    ('window', 'every', 'metrics', 'evals'),
    [
        (3, 4, [3, 6, 9, 10, 12, 14, 15, 18], [10, 14, 18]),
        (5, 7, [5, 6, 11, 13, 16, 18], [13, 18]),
        (1000, 100, [6, 18], [18]),
    ],
)
@pytest.mark.parametrize('seconds', [0.0, 100.0])
def test_evaluation_due__an_evaluation_is_never_missed(
    engine, tmp_path, monkeypatch, window, every, metrics, evals, seconds
):
    """Where log windows do not divide the time between evaluations, too."""
    monkeypatch.setattr(loop, 'LOG_WINDOW', window)
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', seconds)
    toy_run.trainer(tmp_path, toy.changed(engine, eval_every=every)).run()
    assert toy_run.steps(tmp_path, 'metrics') == metrics
    assert toy_run.steps(tmp_path, 'eval') == evals


class TwoEvaluated(toy.Toy):
    """Both phases are evaluated."""

    def phases(self):
        return tuple(dataclasses.replace(phase, evaluate=True) for phase in super().phases())


def test_evaluation_due__a_phase_that_is_over_is_not_evaluated_again(engine, tmp_path, monkeypatch):
    """Update 8 is the second of the second phase, and twice `eval_every` from the first's start."""
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    both = toy.changed(engine, TwoEvaluated)
    toy_run.stopped_at_each((4, 6, 8, 12, 16), tmp_path, both)
    assert toy_run.steps(tmp_path, 'eval') == [4, 6, 10, 14, 18]


def test_write_rows__metrics_are_averages_since_the_last_row(engine, whole):
    by_hand = {i: [] for i in range(3)}
    progress = fresh_progress(engine)
    state = progress.state
    for phase in engine.agent.phases():
        for _ in range(phase.steps):
            zeros = engine.zeros(phase)
            state, sums, _ = engine.dispatch(phase, state, zeros, 1)
            for i in by_hand:
                by_hand[i].append({k: float(v[i]) for k, v in jax.device_get(sums).items()})
    assert toy.equal(state, whole[2].state)
    for i, seed in enumerate(toy_run.SEEDS):
        begin = 0
        for row in (row for row in toy_run.rows(whole[0], 'metrics') if row['seed'] == seed):
            end = row['step']
            assert row['net/step'] == (begin + end - 1) / 2
            for name in ('net/loss', 'net/row'):
                mean = np.mean([metrics[name] for metrics in by_hand[i][begin:end]])
                assert row[name] == pytest.approx(mean, rel=1e-6)
            begin = end


def test_run_phase__transfers_nothing_implicitly(engine, tmp_path, monkeypatch):
    trainer = toy_run.trainer(tmp_path, toy.changed(engine, eval_every=4))
    progress = fresh_progress(engine)
    # Once outside, to compile what is not the loop's own: rows and evaluations.
    toy_run.trainer(tmp_path / 'before', engine).run()
    trainer.start, trainer.cursor.offsets = 0.0, {}
    written = []
    trainer.records.write = lambda *row: written.append(row)
    with transfers.forbidden(monkeypatch) as meant:
        # The simulators and Orbax come to the arrays on their own ways.
        trainer.evaluate = meant(toy_run.score_by_params)
        trainer.save = lambda progress: None
        trainer._policies = meant(trainer._policies)  # compiles at its first call
        trainer._keep_best = meant_once(meant, trainer._keep_best)
        for phase in trainer.phases:
            progress = trainer.run_phase(phase, progress)
    assert trainer.cursor.step == 18
    assert sum(len(rows) for _, _, rows, *_ in written) == 3 * (5 + 3)


def meant_once(meant, function):
    """The first call, which compiles, may transfer; the others may not."""
    calls = [meant(function)]

    def call(*args):
        return (calls.pop() if calls else function)(*args)

    return call


def test_run__a_real_console_reports_it(fragile, tmp_path):
    trainer = toy_run.trainer(tmp_path, fragile)
    stream = io.StringIO()
    trainer.report = Console(stream)
    trainer.run()
    text = stream.getvalue()
    assert 'warning: toy seed 1 diverged at update 8' in text
    assert 'evaluation at 18: score toy ' in text
    for path in tmp_path.glob('*.jsonl'):
        assert all(json.loads(line) for line in path.read_text().splitlines())


# Best and last.


def scripted(table):
    """An evaluation whose scores are written down: evaluation -> score of each lane."""
    script = iter(table)

    def evaluate(acting, lanes):
        scores = next(script)
        seen.append(toy.bits(acting))
        return {i: {'eval/score': scores[i]} for i in lanes}

    seen = []
    return evaluate, seen


def test_end_evaluation__best_and_last_are_never_mixed(engine, tmp_path):
    evaluate, seen = scripted([(5.0, 1.0, 7.0), (9.0, 1.0, 3.0), (2.0, 4.0, 7.0)])
    progress = toy_run.trainer(tmp_path, engine, evaluate).run()
    assert jax.device_get(progress.best_score).tolist() == [9.0, 4.0, 7.0]
    assert jax.device_get(progress.best_step).tolist() == [14, 18, 10]
    for i, evaluation in enumerate((1, 2, 0)):
        assert toy.equal(toy.lane(progress.best, i), toy.lane(seen[evaluation], i))
    last = jax.vmap(engine.agent.acting)(progress.state)
    assert toy.equal(last, seen[2])
    restored, _ = restore_progress(engine, tmp_path, pytest.fail)
    assert toy.equal(restored, progress)


def test_end_evaluation__scores_that_are_not_numbers_or_never_good_do_no_harm(engine, tmp_path):
    evaluate, seen = scripted(
        [(-9.0, np.nan, -np.inf), (-5.0, -3.0, -np.inf), (np.nan, -8.0, -1.0)]
    )
    progress = toy_run.trainer(tmp_path, engine, evaluate).run()
    assert jax.device_get(progress.best_score).tolist() == [-5.0, -3.0, -1.0]
    assert toy.equal(toy.lane(progress.best, 1), toy.lane(seen[1], 1))


# What a phase does before it begins.


@pytest.fixture(scope='module')
def entering():
    """The second lane is lost in pre-training."""
    lanes = toy.lanes(*toy_run.SEEDS, at1={'blow_at': 3.0})
    return toy.engine(lanes, agent=toy.Entering)


def test_enter__changes_each_live_lane_once(entering, tmp_path):
    trainer = toy_run.trainer(tmp_path, entering)
    pretrain, train = trainer.phases
    progress = fresh_progress(entering)
    state, _, done = entering.advance(
        pretrain, progress.state, progress.sums['pretrain'], 6, np.ones(3, bool)
    )
    assert list(done) == [6, 3, 6]
    before = toy.bits(state)
    after = toy.bits(entering.enter(train, state, done == 6))
    assert toy.equal(toy.lane(after.params, 0, 2), toy.lane(before.target, 0, 2))
    assert not toy.equal(toy.lane(after.params, 0), toy.lane(before.params, 0))
    assert toy.equal(toy.lane(after, 1), toy.lane(before, 1)), 'a lane that had diverged'
    assert toy.equal(after.replace(params=None), before.replace(params=None))


def test_run_phase__one_that_enters_resumes_at_any_step(entering, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    undisturbed = toy_run.trainer(tmp_path / 'whole', entering)
    progress = undisturbed.run()
    assert toy.equal(toy_run.trainer(tmp_path / 'again', entering).run(), progress)
    resumed = toy_run.stopped_at_each((5, 6, 7), tmp_path / 'stopped', entering)
    toy_run.assert_same_run(
        tmp_path / 'stopped', *resumed, (tmp_path / 'whole', undisturbed, progress)
    )


# DTQL's schedule at the phase boundary.


class Schedule(dtql.DTQL):
    """DTQL's phases around networks of one layer: a step is an update by a gradient of zero."""

    def networks(self):
        return {name: (nn.Dense(1), (jnp.zeros((1, 3)),)) for name in ('critic', 'mu', 'pi')}

    def descend(self, state, name, lr, loss, *inputs):
        zeros = jax.tree.map(jnp.zeros_like, state.params[name])
        _, opt = self.optimiser(name).update(zeros, state.opt[name], state.params[name])
        return state.replace(opt={**state.opt, name: opt}), {f'lr/{name}': lr}

    def acting(self, state):
        return state.params['pi']


def test_run__the_cosine_counts_training_updates_and_adam_counts_all(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    config = dtql.Config(
        pretrain_steps=3,
        steps=4,
        eval_every=1,
        lr_decay=True,
        lr=1e-3,
        critic_lr=2e-3,
        batch_size=8,
    )
    engine = Engine(Schedule(Spec(3, 2), config), toy.data(), toy.lanes(0, 1))
    _, progress = toy_run.stopped_at_each((1, 3, 4, 6), tmp_path, engine)
    found = [row for row in toy_run.rows(tmp_path, 'metrics') if row['seed'] == 1]
    assert [row['step'] for row in found] == [1, 2, 3, 4, 5, 6, 7]
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert cosine[0] == 1
    for name, base in (('critic', 2e-3), ('mu', 1e-3), ('pi', 1e-3)):
        rates = [row[f'lr/{name}'] for row in found if f'lr/{name}' in row]
        pretrain = [] if name == 'pi' else [base] * 3
        np.testing.assert_allclose(rates, [*pretrain, *base * cosine], rtol=1e-6)
    counts = {name: toy.bits(opt.count).tolist() for name, opt in progress.state.opt.items()}
    assert counts == {'critic': [7, 7], 'mu': [7, 7], 'pi': [4, 4]}
    assert isinstance(engine.agent.phases()[0], Phase)


# Delayed updates.


@pytest.fixture(scope='module')
def delayed():
    """The actor moves at the updates 4, 9 and 14, counted from 0."""
    lanes = toy.lanes(*toy_run.SEEDS, at1={'blow_at': 12.0})
    return toy.engine(lanes, agent=toy.Delayed, delay=5)


@pytest.fixture(scope='module')
def delayed_run(delayed, tmp_path_factory):
    """Its folder, trainer and progress."""
    folder = tmp_path_factory.mktemp('delayed')
    trainer = toy_run.trainer(folder, delayed)
    return folder, trainer, trainer.run()


def test_write_rows__a_rare_metric_is_averaged_over_the_updates_that_made_it(delayed_run):
    rows = [row for row in toy_run.rows(delayed_run[0], 'metrics') if row['seed'] == 3]
    assert [row['step'] for row in rows] == [4, 6, 10, 14, 18]
    assert [row['net/step'] for row in rows] == [1.5, 4.5, 7.5, 11.5, 15.5]
    # No update from 0 to 3 and none from 10 to 13 moves the actor.
    assert [row.get('actor/step') for row in rows] == [None, 4.0, 9.0, None, 14.0]
    assert [('actor/loss' in row) for row in rows] == [False, True, True, False, True]


def test_run__a_delayed_network_moves_when_it_is_due(delayed, delayed_run):
    counts = toy.bits(delayed_run[2].state).opt
    assert counts['net'].count.tolist() == [18, 12, 18]
    assert counts['actor'].count.tolist() == [3, 2, 3]
    assert delayed_run[1].cursor.diverged == {'1': 12}
    assert delayed.traces == toy.TRACED_ONCE


def test_run__a_delayed_update_resumes_at_any_step(delayed, delayed_run, tmp_path, monkeypatch):
    """Also between an update that makes the rare metrics and the row that has them."""
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    resumed = toy_run.stopped_at_each((1, 5, 6, 8, 11, 13, 15, 17), tmp_path, delayed)
    toy_run.assert_same_run(tmp_path, *resumed, delayed_run)


@pytest.mark.parametrize(
    ('total', 'count', 'expected'),
    [([6.0, 1.0], [2.0, 0.0], [3.0, None]), ([0.0, -4.0], [1.0, 4.0], [0.0, -1.0])],
)
def test_means__rare_metrics_have_a_count_of_their_own(total, count, expected):
    sums = {'a/loss': np.float32([8.0, 8.0]), 'a/rare': Rare(np.float32(total), np.float32(count))}
    for lane, mean in enumerate(expected):
        row = means(sums, lane, 4)
        assert row == {'a/loss': 2.0} | ({} if mean is None else {'a/rare': mean})
        assert all(type(value) is float for value in row.values())
