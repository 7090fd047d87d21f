"""How programs are compiled, and the folder of compiled programs."""

import jax
import pytest

from dtql_jax.training import compilation
from dtql_jax.training.compilation import CACHE, use_compilation_cache
from tests.helpers import toy

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


def test_compile_for__an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    """As it may be in another version of jaxlib."""
    monkeypatch.setattr(compilation, 'COMPILER_OPTIONS', {'cpu': {'xla_cpu_no_such': 'x'}})
    engine = toy.engine(toy.lanes(0))
    *_, finite = engine.dispatch(*toy.start(engine), 2)
    assert jax.device_get(finite).all()
    monkeypatch.setattr(
        jax.stages.Lowered, 'compile', lambda *_: raise_(jax.errors.JaxRuntimeError('no memory'))
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match='no memory'):
        engine.compile(engine.agent.phases()[1])


def raise_(error):
    raise error
