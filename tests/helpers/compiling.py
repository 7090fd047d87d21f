"""Compilation to slower programs, in a third of the time."""

import contextlib
import functools

import jax
import pytest

# XLA's older emitters take half as long as the fusing ones; small programs come in one piece.
OPTIONS = {'xla_cpu_use_fusion_emitters': False, 'xla_cpu_parallel_codegen_split_count': 1}


@functools.cache
def known_options():
    """Those of `OPTIONS` that this jaxlib has."""
    program = jax.jit(lambda x: x).lower(0.0)

    def known(item):
        try:
            program.compile(dict([item]))
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return list(filter(known, OPTIONS.items()))


def quick_environment():
    """The variables by which a child compiles as `quickly_compiled` does."""
    flags = [f'--{name}={str(value).lower()}' for name, value in known_options()]
    return {'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true', 'XLA_FLAGS': ' '.join(flags)}


@contextlib.contextmanager
def quickly_compiled():
    """Within, programs compile in a third of the time and run slowly."""
    name, compiler, options = 'jax_disable_most_optimizations', jax._src.compiler, known_options()
    before, get_compile_options = jax.config.read(name), compiler.get_compile_options

    def with_options(*args, **kwargs):
        found = get_compile_options(*args, **kwargs)
        found.env_option_overrides = [*found.env_option_overrides, *options]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, 'get_compile_options', with_options)
        jax.config.update(name, True)
        try:
            yield
        finally:
            jax.config.update(name, before)
