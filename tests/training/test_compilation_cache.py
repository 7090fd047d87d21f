"""The folder of compiled programs."""

import jax
import pytest

from dtql_jax.training.compilation_cache import CACHE, use_compilation_cache

NAME = 'jax_compilation_cache_dir'


@pytest.fixture
def cache_dir():
    """jax's setting, put back at the end."""
    before = getattr(jax.config, NAME)
    yield
    jax.config.update(NAME, before)


@pytest.mark.usefixtures('cache_dir')
@pytest.mark.parametrize(('asked', 'kept'), [(None, str(CACHE)), ('/elsewhere', '/elsewhere')])
def test_use_compilation_cache__leaves_a_folder_that_is_set(asked, kept):
    jax.config.update(NAME, asked)
    use_compilation_cache()
    assert getattr(jax.config, NAME) == kept
