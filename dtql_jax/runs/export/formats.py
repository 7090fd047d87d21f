"""The files of an exported policy in each format."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dtql_jax.runs.export import numpy_policy
from dtql_jax.runs.export.graph import Graph
from dtql_jax.runs.export.noise import Policy
from dtql_jax.types import needed

PLATFORMS = ('cpu', 'cuda', 'tpu')
OPSET, IR_VERSION = 18, 8  # of ONNX: those of its version 1.13
CODES = {np.dtype(kind): code for code, kind in numpy_policy.TYPES.items()}


def stablehlo(act: Callable[[jax.Array, jax.Array], jax.Array], policy: Policy) -> dict[str, bytes]:
    """The programs of `jax.export`, for any number of observations.

    Args:
        act: `act(obs [O], key) -> action [A]`.
        policy: the same with its noise as an argument.
    """
    from jax import export  # no attribute of jax before it is imported

    needed('the format stablehlo', 'flatbuffers')
    (many,) = export.symbolic_shape('b')
    obs = jax.ShapeDtypeStruct((many, policy.obs_dim), np.float32)
    words = jax.ShapeDtypeStruct((many, 2), np.uint32)

    def stochastic(obs: jax.Array, words: jax.Array) -> jax.Array:
        return jax.vmap(lambda o, w: act(o, jax.random.wrap_key_data(w)))(obs, words)

    def deterministic(obs: jax.Array) -> jax.Array:
        return jax.vmap(lambda o: policy.act(o, policy.median()))(obs)

    programs: dict[str, tuple[Callable[..., jax.Array], tuple[Any, ...]]] = {
        'policy': (stochastic, (obs, words)),
        'deterministic': (deterministic, (obs,)),
    }
    return {
        f'{name}.stablehlo': bytes(
            export.export(jax.jit(function), platforms=PLATFORMS)(*inputs).serialize()
        )
        for name, (function, inputs) in programs.items()
    }


def onnx(graphs: Mapping[str, Graph]) -> dict[str, bytes]:
    """A model for each graph."""
    return {f'{name}.onnx': onnx_model(name, graph) for name, graph in graphs.items()}


def onnx_model(name: str, graph: Graph) -> bytes:
    """A graph as an ONNX model."""
    package = needed('the format onnx', 'onnx')
    helper, arrays = package.helper, package.numpy_helper
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(n.operation, n.inputs, [n.result], **n.attributes)
             for n in graph.nodes],
            name,
            [helper.make_tensor_value_info(n, package.TensorProto.FLOAT, shape)
             for n, shape in graph.inputs.items()],
            [helper.make_tensor_value_info(
                'action', package.TensorProto.FLOAT, [graph.action_dim])],
            [arrays.from_array(array, n) for n, array in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR_VERSION,
        producer_name='dtql_jax',
    )  # fmt: skip
    package.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def numpy(graphs: Mapping[str, Graph]) -> dict[str, bytes]:
    """The arrays, and the program that computes the graphs which `config.json` has."""
    arrays = {name: array for graph in graphs.values() for name, array in graph.constants.items()}
    program = pathlib.Path(numpy_policy.__file__).read_bytes()
    return {'weights.safetensors': safetensors(arrays), 'policy.py': program}


def described(graphs: Mapping[str, Graph]) -> dict[str, Any]:
    """The nodes of each graph, ready for JSON."""
    return {name: [list(node) for node in graph.nodes] for name, graph in graphs.items()}


def safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a safetensors file."""
    header, start = {}, 0
    for name, array in arrays.items():
        ends = [start, start + array.nbytes]
        header[name] = {'dtype': CODES[array.dtype], 'shape': array.shape, 'data_offsets': ends}
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text + b''.join(x.tobytes() for x in arrays.values())
