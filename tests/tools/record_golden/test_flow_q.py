"""The recorder's batches and weights of FQL and ReBRAC are those of the committed traces."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip('torch', reason='the recorder takes torch, which nothing else needs')

import itertools

from tools.record_golden.flow_q import METHODS, formula, leaves, summary

FOLDER = pathlib.Path(__file__).parents[2] / 'golden'


@pytest.mark.parametrize('name', METHODS)
def test_METHODS__batches_are_the_recorded_ones(name):
    golden = np.load(FOLDER / f'{name}.npz')
    for label, case in METHODS[name].cases.items():
        batches = case.batches(case.steps, next_action='actor_freq' in METHODS[name].settings)
        for i, batch in enumerate(batches):
            for key, value in batch.items():
                np.testing.assert_array_equal(value, golden[f'{label}/batch{i}/{key}'])


def test_formula__gives_the_targets_that_one_step_leaves_alone():
    """After the first update the target critic is still the critic of the start."""
    golden = np.load(FOLDER / 'fql.npz')
    prefix = 'ogbench/step0/params/target_critic/'
    sizes = [37, 64, 64, 64, 64, 1]
    net = {}
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        net[f'Dense_{i}'] = {'kernel': (2, before, after), 'bias': (2, after)}
        if i < 4:
            net[f'LayerNorm_{i}'] = {'scale': (2, after), 'bias': (2, after)}
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    tree = jax.tree.map(jnp.zeros, {'value_net': net}, is_leaf=is_shape)
    for path, tensor in leaves(formula(tree, 0)):
        np.testing.assert_allclose(summary(tensor), golden[prefix + path], atol=1e-6)
