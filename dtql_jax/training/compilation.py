"""How programs are compiled, and where they are kept between runs."""

import pathlib

import jax

CACHE = pathlib.Path('~/.cache/dtql_jax/xla').expanduser()
# XLA's CPU backend hands many products to the library YNNPACK, which is slower at these sizes than
# XLA's own kernels: with it an update of DTQL takes 4 to 11 % longer at batch 256, 8 % at 2048.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    'cpu': {'xla_cpu_experimental_ynn_fusion_type': ''}
}


def use_compilation_cache() -> None:
    """Keeps compiled programs in `CACHE`, unless jax's own settings name a folder already."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update('jax_compilation_cache_dir', str(CACHE))


def compile_for(platform: str, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles with the platform's options, or without them where this jaxlib lacks one."""
    try:
        return lowered.compile(COMPILER_OPTIONS.get(platform))
    except jax.errors.JaxRuntimeError as error:
        if 'compile option' not in str(error):
            raise
        return lowered.compile()
