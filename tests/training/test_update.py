"""The update of a phase: the operations that a forecast counts."""

import jax
import jax.numpy as jnp

from dtql_jax.training.update import flops

X = jax.ShapeDtypeStruct((8, 16), jnp.float32)
Y = jax.ShapeDtypeStruct((16, 16), jnp.float32)
ONE = 2 * 8 * 16 * 16  # of a product


def counted(function):
    return flops(jax.make_jaxpr(function)(X, Y).jaxpr)


def test_flops__are_those_of_products():
    assert counted(jnp.matmul) == ONE
    assert counted(lambda x, y: jnp.tanh(x) + 1) == 0
    assert counted(jax.jit(lambda x, y: x @ y @ y)) == 2 * ONE


def test_flops__of_a_batched_product_and_of_a_gradient():
    assert counted(lambda x, y: jax.vmap(jnp.matmul, (None, 0))(x, jnp.stack([y, y]))) == 2 * ONE
    assert counted(jax.grad(lambda x, y: (x @ y).sum(), argnums=(0, 1))) == 3 * ONE


def test_flops__count_each_pass_of_a_loop_and_the_dearer_branch():
    def many(x, y):
        return jax.lax.fori_loop(0, 5, lambda _, x: x @ y, x)

    def either(x, y):
        return jax.lax.cond(x[0, 0] > 0, lambda: many(x, y), lambda: x @ y)

    assert counted(many) == 5 * ONE
    assert counted(either) == 5 * ONE
