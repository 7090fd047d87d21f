"""Compiled programs are kept between runs."""

import pathlib

import jax

CACHE = pathlib.Path('~/.cache/dtql_jax/xla').expanduser()


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user has said where (or not) to."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update('jax_compilation_cache_dir', str(CACHE))
