"""The loop: what is written when, what is best, and that no clock and no stop decides a number."""

import dataclasses
import io
import json
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.report.tables import score_table
from dtql_jax.training import loop as training
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import fresh_progress, restore_progress
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Lane, Phase, Spec, Stopped
from tests.helpers import toy, transfers
from tests.helpers.toy import NEVER

SEEDS = (3, 1, 4)


@pytest.fixture(scope='module')
def engine():
    """6 updates of pre-training, 12 of training, an evaluation every 4."""
    return toy.engine(toy.lanes(*SEEDS))


@pytest.fixture(scope='module')
def whole(engine, tmp_path_factory):
    """A run that nothing disturbed: its folder, trainer and progress."""
    folder = tmp_path_factory.mktemp('whole')
    trainer = toy.trainer(folder, engine)
    return folder, trainer, trainer.run()


def rows(folder, log):
    """The rows of a log without their times."""
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in read_jsonl(folder / f'{log}.jsonl')
    ]


def steps(folder, log, seed=SEEDS[0]):
    return [row['step'] for row in rows(folder, log) if row['seed'] == seed]


def assert_same_run(folder, trainer, progress, whole):
    """The same numbers as an undisturbed run: files, arrays and cursor."""
    for log in ('metrics', 'eval'):
        assert rows(folder, log) == rows(whole[0], log)
    assert toy.equal(progress, whole[2])
    for ours, theirs in ((trainer.cursor, whole[1].cursor),):
        changing = {'elapsed_s': 0.0, 'offsets': {}}
        assert dataclasses.replace(ours, **changing) == dataclasses.replace(theirs, **changing)


# What is written.


def test_rows_and_evaluations_stand_at_the_documented_steps(whole):
    folder, trainer, _ = whole
    assert steps(folder, 'metrics') == [4, 6, 10, 14, 18]
    assert steps(folder, 'eval') == [10, 14, 18]
    for log in ('metrics', 'eval'):
        found = rows(folder, log)
        assert [row['seed'] for row in found] == [*SEEDS] * (len(found) // 3)
    assert [row['phase'] for row in rows(folder, 'metrics')] == ['pretrain'] * 6 + ['train'] * 9
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
def test_an_evaluation_is_never_missed(
    engine, tmp_path, monkeypatch, window, every, metrics, evals, seconds
):
    """Where log windows do not divide the time between evaluations, too."""
    monkeypatch.setattr(training, 'LOG_WINDOW', window)
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', seconds)
    toy.trainer(tmp_path, toy.changed(engine, eval_every=every)).run()
    assert steps(tmp_path, 'metrics') == metrics
    assert steps(tmp_path, 'eval') == evals


def test_metrics_are_averages_since_the_last_row(engine, whole):
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
    for i, seed in enumerate(SEEDS):
        begin = 0
        for row in (row for row in rows(whole[0], 'metrics') if row['seed'] == seed):
            end = row['step']
            assert row['net/step'] == (begin + end - 1) / 2
            for name in ('net/loss', 'net/row'):
                mean = np.mean([metrics[name] for metrics in by_hand[i][begin:end]])
                assert row[name] == pytest.approx(mean, rel=1e-6)
            begin = end


def test_the_loop_transfers_nothing_implicitly(engine, tmp_path, monkeypatch):
    trainer = toy.trainer(tmp_path, toy.changed(engine, eval_every=4))
    progress = fresh_progress(engine)
    # Once outside, to compile what is not the loop's own: rows and evaluations.
    toy.trainer(tmp_path / 'before', engine).run()
    trainer.start, trainer.cursor.offsets = 0.0, {}
    written = []
    trainer.write = lambda *row: written.append(row)
    with transfers.forbidden(monkeypatch) as meant:
        # The simulators and Orbax come to the arrays on their own ways.
        trainer.evaluate = meant(toy.score_by_params)
        trainer.save = lambda progress: None
        trainer._policies = meant(trainer._policies)  # compiles at its first call
        trainer._keep_best = meant_once(meant, trainer._keep_best)
        for phase in trainer.phases:
            progress = trainer.run_phase(phase, progress)
    assert trainer.cursor.step == 18
    assert len(written) == 3 * (5 + 3)


def meant_once(meant, function):
    """The first call, which compiles, may transfer; the others may not."""
    calls = [meant(function)]

    def call(*args):
        return (calls.pop() if calls else function)(*args)

    return call


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


def test_best_and_last_are_never_mixed(engine, tmp_path):
    evaluate, seen = scripted([(5.0, 1.0, 7.0), (9.0, 1.0, 3.0), (2.0, 4.0, 7.0)])
    progress = toy.trainer(tmp_path, engine, evaluate).run()
    assert jax.device_get(progress.best_score).tolist() == [9.0, 4.0, 7.0]
    assert jax.device_get(progress.best_step).tolist() == [14, 18, 10]
    for i, evaluation in enumerate((1, 2, 0)):
        assert toy.equal(toy.lane(progress.best, i), toy.lane(seen[evaluation], i))
    last = jax.vmap(engine.agent.acting)(progress.state)
    assert toy.equal(last, seen[2])
    restored, _ = restore_progress(engine, tmp_path, pytest.fail)
    assert toy.equal(restored, progress)


def test_scores_that_are_not_numbers_or_never_good_do_no_harm(engine, tmp_path):
    evaluate, seen = scripted(
        [(-9.0, np.nan, -np.inf), (-5.0, -3.0, -np.inf), (np.nan, -8.0, -1.0)]
    )
    progress = toy.trainer(tmp_path, engine, evaluate).run()
    assert jax.device_get(progress.best_score).tolist() == [-5.0, -3.0, -1.0]
    assert toy.equal(toy.lane(progress.best, 1), toy.lane(seen[1], 1))


# Clocks and stops.


@pytest.mark.parametrize(
    ('dispatch_s', 'save_s'), [(0.0, 1e9), (1e9, 1e9), (1e-3, -1.0), (0.0, -1.0)]
)
def test_the_clock_decides_no_number(engine, whole, tmp_path, monkeypatch, dispatch_s, save_s):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', dispatch_s)
    monkeypatch.setattr(training, 'SAVE_SECONDS', save_s)
    trainer = toy.trainer(tmp_path, engine)
    progress = trainer.run()
    assert_same_run(tmp_path, trainer, progress, whole)
    assert len(trainer.report.rates) >= (18 if dispatch_s == 0 else 5)


class StopsAt(toy.Report):
    """Asks to stop when the run gets to a step."""

    def __init__(self, stop, step):
        super().__init__()
        self.stop, self.step = stop, step

    def progress(self, phase, step, total, rate):
        if step == self.step:
            self.stop.signal = 15


def stopped_at_each(steps, folder, engine, evaluate=toy.score_by_params):
    """A run that is stopped at each of `steps` and resumed by another trainer."""
    resume = False
    for step in steps:
        stop = StopFlag()
        trainer = toy.trainer(folder, engine, evaluate, stop)
        trainer.report = StopsAt(stop, step)
        with pytest.raises(Stopped):
            trainer.run(resume)
        resume = True
        _, cursor = restore_progress(engine, folder, pytest.fail)
        assert cursor.step == step
    trainer = toy.trainer(folder, engine, evaluate)
    return trainer, trainer.run(resume)


def test_a_stop_at_any_step_saves_and_a_resume_goes_on(engine, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 0.0)
    trainer, progress = stopped_at_each((1, 3, 4, 5, 6, 7, 10, 13, 17), tmp_path, engine)
    assert_same_run(tmp_path, trainer, progress, whole)


class TwoEvaluated(toy.Toy):
    """Both phases are evaluated."""

    def phases(self):
        return tuple(dataclasses.replace(phase, evaluate=True) for phase in super().phases())


def test_a_phase_that_is_over_is_not_evaluated_again(engine, tmp_path, monkeypatch):
    """Update 8 is the second of the second phase, and twice `eval_every` from the first's start."""
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 0.0)
    both = toy.changed(engine, TwoEvaluated)
    stopped_at_each((4, 6, 8, 12, 16), tmp_path, both)
    assert steps(tmp_path, 'eval') == [4, 6, 10, 14, 18]


def test_a_stop_during_an_evaluation_leaves_nothing_of_it(engine, whole, tmp_path):
    def interrupted(acting, lanes):
        raise Stopped

    trainer = toy.trainer(tmp_path, engine, interrupted)
    for resume in (False, True, True):
        with pytest.raises(Stopped):
            trainer.run(resume)
        assert steps(tmp_path, 'metrics') == [4, 6, 10]
        assert steps(tmp_path, 'eval') == []
        _, cursor = restore_progress(engine, tmp_path, pytest.fail)
        assert (cursor.step, cursor.evaluated) == (10, 0)
    trainer = toy.trainer(tmp_path, engine)
    assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_what_was_written_after_the_last_checkpoint_is_written_again(engine, whole, tmp_path):
    def crash(acting, lanes):
        raise RuntimeError('the simulator broke')

    with pytest.raises(RuntimeError, match='broke'):
        toy.trainer(tmp_path, engine, crash).run()
    assert steps(tmp_path, 'metrics') == [4, 6, 10]
    trainer = toy.trainer(tmp_path, engine)
    assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_a_run_that_was_killed_before_its_first_save_starts_again(engine, whole, tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"st')
    trainer = toy.trainer(tmp_path, engine)
    assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


def test_a_finished_run_may_be_resumed_and_stays_as_it_is(engine, whole, tmp_path):
    toy.trainer(tmp_path, engine).run()
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    trainer = toy.trainer(tmp_path, engine, pytest.fail)
    assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_no_run_traces_a_phase_again(engine, whole):
    """Last of the runs of this engine: with resumes, stops and dispatches of many sizes."""
    assert engine.traces == {'pretrain': 1, 'train': 1}


# Evaluations beside training.


class Beside:
    """An evaluation that ends only after training has gone on, where there is any left to do."""

    def __init__(self, folder, engine, stop_at=None):
        self.stop = StopFlag()
        self.trainer = toy.trainer(folder, engine, self, self.stop, overlap=True)
        self.trainer.report = StopsAt(self.stop, stop_at)
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
        return toy.score_by_params(acting, lanes)


@pytest.fixture
def sliced(monkeypatch):
    """One update per dispatch beside an evaluation, all that there are elsewhere."""
    monkeypatch.setattr(training, 'SLICE_SECONDS', 0.0)
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 1e9)


@pytest.mark.usefixtures('sliced')
def test_training_goes_on_beside_an_evaluation_and_no_number_changes(engine, whole, tmp_path):
    beside = Beside(tmp_path, engine)
    assert_same_run(tmp_path, beside.trainer, beside.trainer.run(), whole)
    assert len(beside.trained_to) == 3
    assert (np.array(beside.trained_to) >= (11, 15, 18)).all()
    assert [step for step, _ in beside.trainer.report.evaluations] == [10, 14, 18]


@pytest.mark.usefixtures('sliced')
@pytest.mark.parametrize('overlap', [False, True])
def test_an_evaluation_that_a_stop_cut_off_is_played_again_from_its_snapshot(
    engine, whole, tmp_path, overlap
):
    beside = Beside(tmp_path, engine, stop_at=12)
    with pytest.raises(Stopped):
        beside.trainer.run()
    _, cursor = restore_progress(engine, tmp_path, pytest.fail)
    assert (cursor.step, cursor.playing, cursor.evaluated) == (12, 10, 0)
    assert steps(tmp_path, 'eval') == []
    trainer = toy.trainer(tmp_path, engine, overlap=overlap)
    assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)


@pytest.mark.usefixtures('sliced')
def test_an_evaluation_that_fails_beside_training_ends_the_run(engine, tmp_path):
    def crash(acting, lanes):
        raise RuntimeError('the simulator broke')

    with pytest.raises(RuntimeError, match='broke'):
        toy.trainer(tmp_path, engine, crash, overlap=True).run()


@pytest.mark.usefixtures('sliced')
def test_a_lane_that_diverges_beside_its_evaluation_is_evaluated_all_the_same(fragile, tmp_path):
    """Also where the evaluation is played again after a stop: it lived when it began."""
    engine = with_blows(fragile, NEVER, 11.0, NEVER)
    plain = toy.trainer(tmp_path / 'plain', engine)
    whole = (tmp_path / 'plain', plain, plain.run())
    assert steps(whole[0], 'eval', SEEDS[1]) == [10]
    folder = tmp_path / 'cut'
    beside = Beside(folder, engine, stop_at=12)
    with pytest.raises(Stopped):
        beside.trainer.run()
    trainer = toy.trainer(folder, engine, overlap=True)
    assert_same_run(folder, trainer, trainer.run(resume=True), whole)


# Divergence.


@pytest.fixture(scope='module')
def fragile():
    """The lane in the middle goes to NaN at update 8, the second of the second phase."""
    return toy.engine(toy.lanes(*SEEDS, at1={'blow_at': 8.0}))


def with_blows(engine, *blows):
    """The engine with other updates that blow its lanes up."""
    other = toy.changed(engine)
    hparams = [{'blow_at': blow} for blow in blows]
    other.lanes = tuple(map(Lane, ['toy'] * len(SEEDS), SEEDS, hparams))
    return other


@pytest.mark.parametrize('seconds', [0.0, 1e9])
def test_a_lane_that_diverges_is_listed_and_the_others_go_on(
    fragile, whole, tmp_path, monkeypatch, seconds
):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', seconds)
    trainer = toy.trainer(tmp_path, fragile)
    progress = trainer.run()
    assert trainer.cursor.diverged == {'1': 8}
    assert trainer.report.divergences == [(1, 8)]
    for log in ('metrics', 'eval'):
        others = [row for row in rows(whole[0], log) if row['seed'] != 1]
        assert [row for row in rows(tmp_path, log) if row['seed'] != 1] == others
    for field in ('params', 'target', 'opt', 'key', 'step'):
        ours, theirs = getattr(progress.state, field), getattr(whole[2].state, field)
        assert toy.equal(toy.lane(ours, 0, 2), toy.lane(theirs, 0, 2))
    assert toy.bits(progress.state).step.tolist() == [18, 8, 18]
    assert steps(tmp_path, 'metrics', 1) == [4, 6, 10]
    last = [row for row in rows(tmp_path, 'metrics') if row['seed'] == 1][-1]
    assert last['diverged_at'] == 8
    assert last['net/step'] == 6.5  # of the updates 6 and 7 that it made
    assert steps(tmp_path, 'eval', 1) == []
    assert jax.device_get(progress.best_score)[1] == -np.inf


@pytest.mark.parametrize('blows', [(8, 3, 9), (0, 0, 0), (10, 10, 2), (4, 5, 6)])
def test_a_run_whose_lanes_all_diverge_ends(fragile, tmp_path, monkeypatch, blows):
    engine = with_blows(fragile, *map(float, blows))
    results = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(training, 'DISPATCH_SECONDS', seconds)
        folder = tmp_path / str(seconds)
        trainer = toy.trainer(folder, engine)
        results.append((folder, trainer, trainer.run()))
        assert trainer.cursor.diverged == {str(i): at for i, at in enumerate(blows)}
        again = toy.trainer(folder, engine, pytest.fail)
        assert_same_run(folder, again, again.run(resume=True), results[0])
    assert_same_run(*results[1], results[0])
    diverged = {int(i): at for i, at in trainer.cursor.diverged.items()}
    table = score_table(engine.lanes, rows(folder, 'eval'), 12.3, diverged)
    for seed, at in zip(SEEDS, blows, strict=True):
        assert f'toy seed {seed}: diverged at update {at}' in table


def test_divergence_survives_a_resume(fragile, tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 0.0)
    plain = toy.trainer(tmp_path / 'plain', fragile)
    whole = (tmp_path / 'plain', plain, plain.run())
    trainer, progress = stopped_at_each((5, 9, 10, 13), tmp_path / 'cut', fragile)
    assert_same_run(tmp_path / 'cut', trainer, progress, whole)
    assert fragile.traces == {'pretrain': 1, 'train': 1}


def test_a_real_console_reports_a_run(fragile, tmp_path):
    trainer = toy.trainer(tmp_path, fragile)
    stream = io.StringIO()
    trainer.report = Console(stream)
    trainer.run()
    text = stream.getvalue()
    assert 'warning: toy seed 1 diverged at update 8' in text
    assert 'evaluation at 18: score toy ' in text
    for path in tmp_path.glob('*.jsonl'):
        assert all(json.loads(line) for line in path.read_text().splitlines())


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


# What a phase does before it begins.


@pytest.fixture(scope='module')
def entering():
    """The second lane is lost in pre-training."""
    lanes = toy.lanes(*SEEDS, at1={'blow_at': 3.0})
    return toy.engine(lanes, agent=toy.Entering)


def test_a_phase_enters_each_live_lane_once(entering, tmp_path):
    trainer = toy.trainer(tmp_path, entering)
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


def test_a_run_that_enters_a_phase_resumes_at_any_step(entering, tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 0.0)
    undisturbed = toy.trainer(tmp_path / 'whole', entering)
    progress = undisturbed.run()
    assert toy.equal(toy.trainer(tmp_path / 'again', entering).run(), progress)
    resumed = stopped_at_each((5, 6, 7), tmp_path / 'stopped', entering)
    assert_same_run(tmp_path / 'stopped', *resumed, (tmp_path / 'whole', undisturbed, progress))


def test_the_cosine_counts_training_updates_and_adam_counts_all(tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'DISPATCH_SECONDS', 0.0)
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
    _, progress = stopped_at_each((1, 3, 4, 6), tmp_path, engine)
    found = [row for row in rows(tmp_path, 'metrics') if row['seed'] == 1]
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
