"""Programs of few kernels."""

import jax
import jax.numpy as jnp
import pytest

from dtql_jax.nn.kernels import either, few_kernels, few_wanted


def test_few_kernels__holds_inside_alone():
    assert not few_wanted()
    with few_kernels(True):
        assert few_wanted()
        with few_kernels(False):
            assert not few_wanted()
    assert not few_wanted()


@pytest.mark.parametrize('few', [False, True])
def test_either__is_a_branch_or_computes_both(few):
    def chosen(due, x):
        return either(due, lambda x: {'a': x + 1}, lambda x: {'a': x}, x)

    with few_kernels(few):
        program = jax.jit(lambda *given: chosen(*given))
        traced = str(jax.make_jaxpr(lambda *given: chosen(*given))(True, 1.0))
        values = [float(program(jnp.bool_(due), 1.0)['a']) for due in (True, False)]
    assert values == [2.0, 1.0]
    assert ('cond' in traced) != few
