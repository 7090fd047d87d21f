"""The arrays of a run and the best of its policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.data.columns import one_row
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import fresh_progress, keep_best, policies, restore_progress
from dtql_jax.types import Rare, Spec
from tests.helpers import toy, toy_run


def test_fresh_progress__sums_are_zero_and_nothing_is_best(engine):
    progress = fresh_progress(engine)
    assert set(progress.sums) == {'pretrain', 'train'}
    assert not any(x.any() for x in jax.tree.leaves(toy.bits(progress.sums)))
    assert toy.bits(progress.best_score).tolist() == [-np.inf] * 3
    assert toy.bits(progress.best_step).tolist() == [0, 0, 0]
    assert toy.equal(progress.best, progress.state.params['net'])


def test_policies__are_copies_of_all_lanes(engine):
    state = engine.init()
    copies = jax.jit(lambda state: policies(engine.agent, state))(state)
    assert toy.equal(copies, state.params['net'])
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((copies, state.params))]
    assert len(set(pointers)) == len(pointers)


def test_keep_best__takes_the_larger_score_of_each_lane_and_the_first_of_ties():
    scores = jnp.array([1.0, 5.0, 2.0, jnp.nan])
    best, best_score, best_step = keep_best(
        {'w': jnp.zeros((4, 2))},
        jnp.array([0.0, 6.0, 2.0, -jnp.inf]),
        jnp.array([1, 2, 3, 0]),
        {'w': jnp.ones((4, 2))},
        scores,
        jnp.int32(9),
    )
    assert best['w'][:, 0].tolist() == [1, 0, 0, 0]
    assert best_score.tolist() == [1, 6, 2, -np.inf]
    assert best_step.tolist() == [9, 2, 3, 0]


def test_restore_progress__reads_a_run_without_its_data(engine, whole):
    blank = Engine(engine.agent, one_row(Spec(3, 2), ()), engine.lanes)
    progress, cursor = restore_progress(blank, whole[0], pytest.fail)
    assert toy.equal(progress, whole[2])
    assert cursor.step == 18


def test_restore_progress__traces_no_phase_where_training_does_not_go_on(tmp_path):
    """Its metrics are as they were, those of delayed updates too."""
    agent = toy.Delayed(Spec(3, 2), toy.DelayedConfig(steps=4))
    engine = Engine(agent, toy.data(), toy.lanes(0, 1))
    trained = toy_run.trainer(tmp_path / 'run', engine).run()

    class Untraceable(toy.Delayed):
        def phases(self):
            raise AssertionError('not needed')

    blank = Engine(Untraceable(agent.spec, agent.config), one_row(agent.spec, ()), engine.lanes)
    progress, cursor = restore_progress(blank, tmp_path / 'run', pytest.fail, trains=False)
    assert toy.equal(progress, trained)
    assert isinstance(progress.sums['train']['actor/loss'], Rare)
    assert cursor.step > 0


class Reading(toy.Toy):
    """Its batches carry a further column."""

    columns = ('next_action',)

    def loss(self, state, batch):
        return super().loss(state, batch._replace(action=batch.extra['next_action']))


def test_fresh_progress__of_an_agent_with_further_columns_needs_no_data():
    agent = Reading(Spec(3, 2), toy.Config())
    engine = Engine(agent, one_row(agent.spec, agent.columns), toy.lanes(0))
    shapes = jax.eval_shape(lambda: fresh_progress(engine))
    assert set(shapes.sums['train']) == {'net/loss', 'net/step', 'net/row'}
