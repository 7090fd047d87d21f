"""Critics apart on a CPU, and as one batched product on accelerators."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.nn.critics import TwinQ

OBS, ACTION = (jax.random.normal(jax.random.key(i), (4, n)) for i, n in enumerate((3, 2)))


def text(platform, q, params):
    traced = jax.jit(lambda p: q.apply({'params': p}, OBS, ACTION)).trace(params)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize('layer_norm', [False, True])
def test_TwinQ__both_ways_agree_and_so_do_their_gradients(layer_norm, monkeypatch):
    q = TwinQ((8, 8), nn.relu, layer_norm)
    params = q.init(jax.random.key(2), OBS, ACTION)['params']

    def loss(params):
        return (q.apply({'params': params}, OBS, ACTION) ** 2).sum()

    apart = jax.value_and_grad(loss)(params)
    monkeypatch.setattr(jax.lax, 'platform_dependent', lambda *x, cpu, default: default(*x))
    together = jax.value_and_grad(loss)(params)
    for ours, theirs in zip(*map(jax.tree.leaves, (apart, together)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_TwinQ__batches_products_on_accelerators_only():
    q = TwinQ((8, 8), nn.relu, count=3)
    params = q.init(jax.random.key(2), OBS, ACTION)['params']
    counts = {
        platform: text(platform, q, params).count('dot_general')
        for platform in ('cpu', 'cuda', 'tpu')
    }
    assert counts == {'cpu': 9, 'cuda': 3, 'tpu': 3}
    assert q.apply({'params': params}, OBS, ACTION).shape == (3, 4)
    assert jnp.isfinite(q.apply({'params': params}, OBS, ACTION)).all()
