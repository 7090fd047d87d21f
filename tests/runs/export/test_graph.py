"""Graphs of ONNX operations give what jax gives."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.runs.export.builder import Constants, narrow
from dtql_jax.runs.export.graph import input_names
from dtql_jax.types import UserError
from tests.helpers import contract
from tests.helpers.graphs import FUNCTIONS, OBS, graph_of, policy_of, run

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('function', FUNCTIONS)
def test_make_graph__gives_what_jax_gives(function):
    _, graph = graph_of(lambda obs, key: function(obs))
    got = run(graph, OBS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, jax.jit(function)(OBS), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ('act', 'message'),
    [
        (lambda obs, key: jnp.sort(obs), 'operation sort of jax .*stablehlo'),
        (lambda obs, key: obs + obs.astype(int) // 2, 'operation div of jax .*float32'),
        (lambda obs, key: jax.lax.cond(obs[0] > 0, jnp.sin, jnp.cos, obs), 'operation cond of'),
    ],
)
def test_make_graph__names_the_operation_that_it_lacks(act, message):
    with pytest.raises(UserError, match=message):
        graph_of(act)


@pytest.mark.parametrize('name', contract.marked())
def test_make_graph__of_every_agent(name):
    act = policy_of(contract.make(name))
    policy, graph = graph_of(act, contract.OBS)
    _, deterministic = graph_of(act, contract.OBS, fixed=True)
    assert list(graph.inputs) == ['obs', *input_names(policy.draws)]
    assert list(deterministic.inputs) == ['obs']
    assert (policy.draws == ()) == (name in contract.NO_CHANCE)
    keys = jax.random.split(jax.random.key(0), 5)
    observations = np.random.default_rng(0).normal(size=(5, contract.OBS)).astype(np.float32)
    replayed = jax.jit(policy.act)
    for obs, key in zip(observations, keys, strict=True):
        noise = jax.jit(policy.draw)(key)
        np.testing.assert_allclose(run(graph, obs, noise), jax.jit(act)(obs, key), atol=1e-5)
        fixed = replayed(obs, policy.median())
        np.testing.assert_allclose(run(deterministic, obs), fixed, atol=1e-5)


def test_make_graph__computes_one_of_equal_candidates():
    act = policy_of(contract.make('dtql'))
    _, graph = graph_of(act, contract.OBS)
    _, fixed = graph_of(act, contract.OBS, fixed=True)
    counts, fewer = (collections.Counter(n.operation for n in g.nodes) for g in (graph, fixed))
    assert counts['ArgMax'] == counts['Gather'] == 1
    assert fewer['ArgMax'] == fewer['Gather'] == 0
    assert fewer['MatMul'] < counts['MatMul']  # no critic
    assert fewer['Expand'] == 1  # the action itself


def test_narrow__keeps_repeated_rows_once():
    assert narrow(np.broadcast_to(OBS, (3, 6))).shape == (1, 6)
    assert narrow(np.zeros((3, 0))).shape == (1, 0)
    assert narrow(np.full((2, 2), np.inf)).shape == (1, 1)
    assert narrow(OBS).shape == (6,)


def test_constants__equal_arrays_have_one_name():
    constants = Constants()
    names = [constants.name(x) for x in (OBS, OBS.copy(), OBS.reshape(2, 3), OBS > 0)]
    assert names == ['c0', 'c0', 'c1', 'c2']
    assert list(constants) == ['c0', 'c1', 'c2']
