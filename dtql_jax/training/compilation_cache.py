"""A folder of compiled programs that runs share."""

import pathlib

import jax

CACHE = pathlib.Path('~/.cache/dtql_jax/xla').expanduser()


def use_compilation_cache() -> None:
    """Keeps compiled programs in `CACHE`, unless jax's own settings name a folder already."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update('jax_compilation_cache_dir', str(CACHE))
