"""Starts of the golden traces, their formula weights and summaries, in torch's order and layout."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.agents.base import Agent, State


def blank(agent: Agent) -> State:
    """The state that `agent.init` returns, with zeros as parameters: no program is compiled."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(agent.init, key).replace(key=None)
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)
    hparams = {name: jnp.float32(value) for name, value in agent.config.floats().items()}
    return state.replace(key=key, hparams=hparams)


def formula(shape: tuple[int, ...], k: int, j: int, scale_vector: bool) -> np.ndarray:
    """Tensor number `k` of network `j` in torch's shape; `scale_vector`: a LayerNorm's weight."""
    n = int(np.prod(shape))
    s = np.sin(1.7 * np.arange(n) + 0.3 * k + 0.9 * j)
    if len(shape) > 1:
        s = 1.5 / np.sqrt(shape[1]) * s
    else:
        s = 1 + 0.1 * s if scale_vector else 0.1 * s
    return s.astype(np.float32).reshape(shape)


def linear(torch_name: str, *path: str) -> list:
    """Weight and bias of one Linear."""
    return [(f'{torch_name}.weight', (*path, 'kernel')), (f'{torch_name}.bias', (*path, 'bias'))]


def norm(torch_name: str, *path: str) -> list:
    """Scale and bias of one LayerNorm."""
    return [(f'{torch_name}.weight', (*path, 'scale')), (f'{torch_name}.bias', (*path, 'bias'))]


def _leaf(tree: dict, path: tuple[str, ...]) -> jnp.ndarray:
    return functools.reduce(operator.getitem, path, tree)


def fill(tree: dict, layout: list[tuple[str, tuple]], j: int) -> dict:
    """`tree` with every tensor of `layout` (torch name, path of ours) set by the formula."""
    new = {k: _blank(v) for k, v in tree.items()}
    for k, (name, path) in enumerate(layout):
        if path is None:  # a tensor of torch's that is never used, but counts
            continue
        leaf = np.asarray(_leaf(tree, path))
        is_kernel = path[-1] == 'kernel'
        torch_shape = leaf.shape[::-1] if is_kernel else leaf.shape
        scale = name.endswith('weight') and leaf.ndim == 1
        value = formula(torch_shape, k, j, scale)
        _leaf(new, path[:-1])[path[-1]] = value.T if is_kernel else value
    return _to_jax(new)


def _blank(tree: dict) -> dict:
    if isinstance(tree, dict):
        return {k: _blank(v) for k, v in tree.items()}
    return np.full(np.shape(tree), np.nan, np.float32)  # a forgotten tensor stays NaN


def _to_jax(tree: dict) -> dict:
    if isinstance(tree, dict):
        return {k: _to_jax(v) for k, v in tree.items()}
    assert np.isfinite(tree).all()
    return jnp.asarray(tree)


def check(summary: np.ndarray, tree: dict, path: tuple, label: str) -> None:
    """Our tensor against [sum, L2 norm, first 4 entries, last 2 entries] of torch's."""
    leaf = np.asarray(_leaf(tree, path), np.float64)
    flat = (leaf.T if leaf.ndim == 2 else leaf).ravel()
    entries = np.concatenate([flat[:4], flat[-2:]])
    np.testing.assert_allclose(flat.sum(), summary[0], atol=2e-4, rtol=0, err_msg=label)
    np.testing.assert_allclose(np.linalg.norm(flat), summary[1], rtol=2e-6, atol=0, err_msg=label)
    np.testing.assert_allclose(entries, summary[2:], atol=1e-6, rtol=0, err_msg=label)
