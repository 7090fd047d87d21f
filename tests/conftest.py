"""Tests run on the CPU, from any folder, and never need the network."""

import gc
import os

import pytest

from tests.helpers.sharing import shared_folder

# Compiled programs fill the heap; looking through it after every 700 new objects takes its time.
gc.set_threshold(20_000, 20, 20)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')


@pytest.fixture(scope='session', autouse=True)
def compiled_once(tmp_path_factory):
    """Keeps compiled programs for the session, so that other tests and processes reuse them."""
    import jax  # after JAX_PLATFORMS is set

    folder = str(shared_folder(tmp_path_factory.getbasetemp()) / 'compiled')
    settings = {
        'jax_compilation_cache_dir': folder,
        'jax_persistent_cache_min_compile_time_secs': 0,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ.setdefault(name.upper(), str(value))
    return folder


@pytest.fixture(scope='session', autouse=True)
def cached_elsewhere(tmp_path_factory):
    """Tests leave the user's own cache of datasets alone."""
    os.environ['DTQL_DATA_CACHE'] = str(tmp_path_factory.mktemp('datasets'))


@pytest.fixture(scope='module')
def quick_compile():
    """Compiles in a third of the time to slower programs, for a module that makes few updates."""
    from tests.helpers.compiling import quickly_compiled

    with quickly_compiled():
        yield


@pytest.fixture(scope='module')
def quick_collect():
    """`gc.collect` passes over what other modules left, which would take half a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def agents_stay_known():
    """Forgets the agents that a test registers, which other tests would list."""
    from dtql_jax.agents.registry import AGENTS

    before = dict(AGENTS)
    yield
    AGENTS.clear()
    AGENTS.update(before)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty Minari root, which the test's process uses."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    return tmp_path
