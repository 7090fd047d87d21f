"""Downloads against a real server on this machine: whole, resumed, cut short, absent."""

import contextlib
import dataclasses
import http.server
import threading

import h5py
import numpy as np
import pytest

from dtql_jax.data.download import local_file
from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import OWN, table


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` with ranges; closes after `server.stop_after` bytes of the body."""

    def do_GET(self):
        content, asked = self.server.content, self.headers.get('Range')
        self.server.asked.append(asked)
        start = int(asked.removeprefix('bytes=').rstrip('-')) if asked else 0
        if self.path != '/own-v2.hdf5':
            self.send_error(404)
            return
        if start >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        if self.server.tells_size:
            self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.stop_after])

    def log_message(self, *_):
        pass


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
        server.url = f'http://127.0.0.1:{server.server_port}/own-v2.hdf5'
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('D4RL_DATASET_DIR', str(tmp_path / 'sets'))
    return tmp_path / 'sets'


def refused(url, **kwargs):
    with pytest.raises(UserError) as caught:
        local_file(url, **kwargs)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_local_file__a_task_fetches_its_file_once(server, folder):
    task = dataclasses.replace(OWN, datasets=(server.url,), source='d4rl')
    assert load(task).card['transitions'] == 5
    assert load(task).card['source'] == 'd4rl'
    assert server.asked == [None]
    assert [path.name for path in folder.iterdir()] == ['own-v2.hdf5']


def test_local_file__a_broken_transfer_resumes(server, folder):
    server.stop_after = 1000
    text = refused(server.url)
    assert f'1,000 of {len(server.content):,} bytes came; the next call continues there' in text
    assert [path.name for path in folder.iterdir()] == ['own-v2.hdf5.part']  # never taken for whole
    server.stop_after = None
    assert local_file(server.url).read_bytes() == server.content
    assert server.asked == [None, 'bytes=1000-']
    assert [path.name for path in folder.iterdir()] == ['own-v2.hdf5']


def test_local_file__a_part_that_is_whole_or_of_another_file(server, folder):
    folder.mkdir()
    part = folder / 'own-v2.hdf5.part'
    part.write_bytes(server.content)
    assert local_file(server.url).read_bytes() == server.content
    (folder / 'own-v2.hdf5').unlink()
    part.write_bytes(server.content + b'more')
    assert 'is of another file and was removed: try again' in refused(server.url)
    assert local_file(server.url).read_bytes() == server.content


def test_local_file__a_transfer_of_unknown_size_is_not_trusted(server, folder):
    server.tells_size = False
    assert f'{len(server.content):,} of an unknown number bytes came' in refused(server.url)


def test_local_file__a_failure_names_the_command(server, folder):
    path, url = folder / 'own-v2.hdf5', server.url
    text = refused(url, download=False)
    assert text.startswith(f'{path} is absent and downloads are switched off; with a network run: ')
    assert f'curl -L -C - -o {path} {url} ; ' in text
    assert '`dataset_path`=FILE, or export D4RL_DATASET_DIR=FOLDER' in text
    assert '404' in refused(url.replace('own-v2', 'other'))
    server.shutdown()
    server.server_close()
    assert 'the download failed (' in refused(url)


def test_local_file__a_file_that_is_there_needs_no_network(folder):
    folder.mkdir()
    (folder / 'x.hdf5').write_bytes(b'')
    with contextlib.chdir(folder):
        assert local_file('http://nowhere.invalid/x.hdf5') == folder / 'x.hdf5'
    text = refused('http://nowhere.invalid/y.hdf5')
    assert 'the download failed (no network, or the address is unknown)' in text


def test_local_file__other_kinds_of_files_are_refused():
    text = refused('http://nowhere.invalid/x.csv')
    assert text == 'http://nowhere.invalid/x.csv: only .hdf5 and .npz files are fetched; name one'
