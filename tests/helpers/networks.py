"""Networks in the tests: initialised and applied as one compiled program each."""

import jax


def params_of(module, *inputs, seed=0):
    """The initial parameters of a network."""
    return jax.jit(module.init)(jax.random.key(seed), *inputs)['params']


def apply(module, params, *inputs):
    """The output of a network."""
    return jax.jit(module.apply)({'params': params}, *inputs)
