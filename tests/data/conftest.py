"""Minari roots, and files of other formats, for the tests."""

import http.server
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from dtql_jax.data import load as load_module
from dtql_jax.data import minari as minari_reader
from dtql_jax.data.load import load
from tests.helpers.file_server import Handler
from tests.helpers.flat_files import ROW, flags, table
from tests.helpers.minari_sets import OWN, episode, write

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'minari'


@pytest.fixture
def shared(monkeypatch):
    """The Minari root beside the checkout, read-only."""
    if not SHARED.is_dir():
        pytest.skip('no ../shared/data/minari beside the checkout')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(SHARED))
    return SHARED


@pytest.fixture
def ogbench_file():
    """An OGBench set beside the checkout, read-only."""
    path = SHARED.parent / 'ogbench' / 'antmaze-large-navigate-v0.npz'
    if not path.is_file():
        pytest.skip('no ../shared/data/ogbench beside the checkout')
    return path


@pytest.fixture
def d4rl_file(tmp_path):
    """Writes a D4RL file with some fields changed, or left out where they are None; its path.

    Rows 0 to 2 end by a time-out, 3 to 5 by a terminal, and row 6 begins an episode that the file
    does not finish.
    """

    def write_file(**changes):
        fields = {
            'observations': table(ROW),
            'actions': table(0.5 * np.ones(7), 2),
            'rewards': 1 + ROW,
            'terminals': flags(5),
            'timeouts': flags(2),
        }
        path = tmp_path / 'own-v2.hdf5'
        with h5py.File(path, 'w') as storage:
            for name, value in (fields | changes).items():
                if value is not None:
                    storage[name] = value
            storage['infos/qpos'] = np.zeros((7, 5))
            storage['metadata/algorithm'] = 'SAC'
        return path

    return write_file


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """A cache of the test's own."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('DTQL_DATA_CACHE', str(path))
    return path


@pytest.fixture
def own(root, folder):
    """A Minari set of two episodes, read once; returns what was read."""
    write('me/own-v0', [episode(0, 30), episode(100, 20, end='terminated')])
    return load(OWN)


@pytest.fixture
def unread(monkeypatch):
    """From now on no source can be read; call it to allow that again."""

    def fail(*args):
        raise AssertionError('the source was read')

    with monkeypatch.context() as patch:
        patch.setattr(minari_reader, 'read', fail)
        patch.setattr(load_module, 'FILES', dict.fromkeys(load_module.FILES, fail))
        yield patch.undo


@pytest.fixture
def d4rl_folder(tmp_path, monkeypatch):
    """The folder that D4RL's files are fetched to; it does not exist yet."""
    monkeypatch.setenv('D4RL_DATASET_DIR', str(tmp_path / 'sets'))
    return tmp_path / 'sets'


@pytest.fixture
def server(tmp_path):
    """A server of one D4RL file of five rows."""
    with h5py.File(tmp_path / 'source.hdf5', 'w') as file:
        file['observations'] = table(np.arange(5.0))
        file['actions'] = table(np.full(5, 0.5), 2)
        file['rewards'] = np.arange(5.0)
        file['terminals'] = np.arange(5) == 4
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.content = (tmp_path / 'source.hdf5').read_bytes()
        server.stop_after, server.tells_size, server.asked = None, True, []
        server.headers = {}
        server.url = f'http://127.0.0.1:{server.server_port}/own-v2.hdf5'
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
