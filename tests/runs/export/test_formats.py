"""The files of an exported policy."""

import jax
import numpy as np
import pytest

from dtql_jax.runs.export.formats import onnx_model
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
