"""Gradients against central differences, in float64."""

from collections.abc import Callable

import jax
import numpy as np
import pytest


def assert_gradients(function: Callable[..., jax.Array], *arguments, step: float = 1e-6) -> None:
    """Checks the gradient of the scalar `function` for every entry of every argument.

    The function may close over NumPy arrays only: JAX arrays from before are float32.
    """
    arguments = [np.array(x, np.float64) for x in arguments]
    with jax.enable_x64(True):
        value = jax.jit(function)
        gradients = jax.jit(jax.grad(function, argnums=tuple(range(len(arguments)))))(*arguments)
        for i, gradient in enumerate(gradients):
            assert gradient.dtype == np.float64
            slope = np.zeros(arguments[i].shape)
            for index in np.ndindex(slope.shape):
                up, down = ([x.copy() for x in arguments] for _ in range(2))
                up[i][index] += step
                down[i][index] -= step
                slope[index] = (value(*up) - value(*down)) / (2 * step)
            assert slope.any()  # a function that ignores the argument would show nothing
            assert np.asarray(gradient) == pytest.approx(slope, rel=1e-6, abs=1e-8), i
