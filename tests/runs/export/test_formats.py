"""The files of an exported policy."""

import jax
import jax.export
import numpy as np
import pytest

from dtql_jax.runs.export.formats import onnx_model, stablehlo
from dtql_jax.runs.export.noise import Policy
from tests.helpers import contract
from tests.helpers.graphs import FUNCTIONS, OBS, graph_of, policy_of, run

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module')
def session():
    """Opens a model in ONNX's runtime."""
    pytest.importorskip('onnx', reason="ONNX needs pip install -e '.[onnx]'")
    runtime = pytest.importorskip('onnxruntime', reason="ONNX needs pip install -e '.[onnx]'")
    return lambda graph: runtime.InferenceSession(onnx_model('policy', graph))


@pytest.mark.parametrize('function', FUNCTIONS)
def test_onnx_model__gives_what_jax_gives(function, session):
    _, graph = graph_of(lambda obs, key: function(obs))
    (got,) = session(graph).run(None, {'obs': OBS})
    np.testing.assert_allclose(got, jax.jit(function)(OBS), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize('name', contract.marked())
def test_onnx_model__of_every_agent(name, session):
    """As the graph in NumPy, which is compared with jax elsewhere."""
    act = policy_of(contract.make(name))
    obs = np.linspace(-1, 1, contract.OBS, dtype=np.float32)
    for fixed in (False, True):
        policy, graph = graph_of(act, contract.OBS, fixed)
        noise = [] if fixed else [np.asarray(x) for x in policy.draw(jax.random.key(1))]
        given = dict(zip(graph.inputs, [obs, *noise], strict=True))
        (got,) = session(graph).run(None, given)
        np.testing.assert_allclose(got, run(graph, obs, noise), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', contract.AGENTS)
def test_stablehlo__of_every_agent(name):
    pytest.importorskip('flatbuffers', reason="StableHLO needs pip install -e '.[stablehlo]'")
    act = policy_of(contract.make(name))
    policy = Policy(act, contract.OBS)
    programs = {k: jax.export.deserialize(bytearray(v)) for k, v in stablehlo(act, policy).items()}
    obs = np.random.default_rng(0).normal(size=(3, contract.OBS)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    found = programs['policy.stablehlo'].call(obs, jax.random.key_data(keys))
    np.testing.assert_allclose(found, jax.jit(jax.vmap(act))(obs, keys), atol=1e-5)
    fixed = programs['deterministic.stablehlo'].call(obs)
    wanted = [jax.jit(policy.act)(o, policy.median()) for o in obs]
    np.testing.assert_allclose(fixed, wanted, atol=1e-5)
