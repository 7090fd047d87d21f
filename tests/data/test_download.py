"""Downloads against a real server on this machine: whole, resumed, cut short, absent."""

import contextlib
import dataclasses
import errno
import fcntl
import shutil

import pytest

from dtql_jax.data.download import local_file
from dtql_jax.data.load import load
from dtql_jax.types import UserError
from tests.helpers.flat_files import OWN


def refused(url, **kwargs):
    with pytest.raises(UserError) as caught:
        local_file(url, **kwargs)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_local_file__a_task_fetches_its_file_once(server, d4rl_folder):
    task = dataclasses.replace(OWN, datasets=(server.url,), source='d4rl')
    assert load(task).card['transitions'] == 5
    assert load(task).card['source'] == 'd4rl'
    assert server.asked == [None]
    assert [path.name for path in d4rl_folder.iterdir()] == ['own-v2.hdf5']


LOGIN = b'\n<!DOCTYPE html><html><body>Please log in to the network.</body></html>'
STRANGERS = {
    'an HTML page': LOGIN,
    'JSON': b'{"error": "quota exceeded"}',
    'an XML page': b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    'a pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
    'a gzip archive': b'\x1f\x8b\x08\0\0\0',
    'text': b'come back later',
    'something else': b'\xff\xfe\x00\x01' * 300,
}


@pytest.mark.parametrize('kind', STRANGERS)
def test_local_file__another_thing_with_status_200_is_not_kept(server, d4rl_folder, kind):
    whole, server.content = server.content, STRANGERS[kind]
    text = refused(server.url)
    assert f'the download failed ({kind} came, no .hdf5 file, and was removed)' in text
    assert list(d4rl_folder.iterdir()) == []
    server.stop_after = 10
    assert 'came, no .hdf5 file, and was removed' in refused(server.url)
    assert list(d4rl_folder.iterdir()) == []
    server.content, server.stop_after = whole, None
    assert local_file(server.url).read_bytes() == whole


def test_local_file__a_page_that_was_kept_before_is_named(server, d4rl_folder):
    d4rl_folder.mkdir()
    path = d4rl_folder / 'own-v2.hdf5'
    path.write_bytes(LOGIN)
    assert refused(server.url) == (
        f'{path} is an HTML page, no .hdf5 file; remove it, and the next call fetches it from '
        f'{server.url}'
    )
    path.unlink()
    assert local_file(server.url).read_bytes() == server.content


def test_local_file__a_part_that_is_a_page_does_not_become_the_file(server, d4rl_folder):
    d4rl_folder.mkdir()
    part = d4rl_folder / 'own-v2.hdf5.part'
    part.write_bytes(LOGIN.ljust(len(server.content)))
    assert 'an HTML page came' in refused(server.url)
    assert list(d4rl_folder.iterdir()) == []
    part.write_bytes(LOGIN)
    assert 'an HTML page came' in refused(server.url)
    assert local_file(server.url).read_bytes() == server.content


def test_local_file__an_hdf5_file_may_begin_with_a_block_of_its_user(server, d4rl_folder):
    server.content = b'#' * 1024 + server.content
    assert local_file(server.url).read_bytes() == server.content


def test_local_file__a_part_of_an_older_version_is_not_continued(server, d4rl_folder):
    server.headers['ETag'], server.stop_after = '"one"', 1000
    refused(server.url)
    assert (d4rl_folder / 'own-v2.hdf5.part').stat().st_size == 1000
    server.content, server.stop_after = server.content[:100] + b'?' + server.content[101:], 2000
    server.headers['ETag'] = '"two"'
    assert '2,000 of' in refused(server.url)
    server.stop_after = None
    assert local_file(server.url).read_bytes() == server.content
    assert [path.name for path in d4rl_folder.iterdir()] == ['own-v2.hdf5']


def test_local_file__a_full_disk_names_the_folder_and_is_continued(
    server, d4rl_folder, monkeypatch
):
    def full(source, target, size):
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'copyfileobj', full)
        assert refused(server.url) == (
            f'{server.url}: no space is left in {d4rl_folder} for it; make room there (the next '
            'call continues), or export D4RL_DATASET_DIR=FOLDER'
        )
    assert local_file(server.url).read_bytes() == server.content
    assert server.asked == [None, 'bytes=1000-']


def test_local_file__two_processes_do_not_mix_their_bytes(server, d4rl_folder):
    d4rl_folder.mkdir()
    with (d4rl_folder / 'own-v2.hdf5.part').open('ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert 'another process is downloading it: wait until it is done' in refused(server.url)
    assert local_file(server.url).read_bytes() == server.content


@pytest.mark.parametrize('url', ['http://[bad/x.hdf5', 'nowhere://x.hdf5/x.hdf5', 'http:///x.hdf5'])
def test_local_file__addresses_that_are_none(d4rl_folder, url):
    assert url in refused(url)


def test_local_file__a_name_does_not_lead_out_of_the_folder(server, d4rl_folder):
    url = server.url.replace('own-v2', '..%2F..%2Fown-v2')
    assert str(d4rl_folder / 'own-v2.hdf5') in refused(url)


def test_local_file__the_variable_may_begin_with_the_home(server, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('D4RL_DATASET_DIR', '~/here')
    assert local_file(server.url) == tmp_path / 'here' / 'own-v2.hdf5'


def test_local_file__a_broken_transfer_resumes(server, d4rl_folder):
    server.stop_after = 1000
    text = refused(server.url)
    assert f'1,000 of {len(server.content):,} bytes came; the next call continues there' in text
    assert [path.name for path in d4rl_folder.iterdir()] == [
        'own-v2.hdf5.part'
    ]  # never taken for whole
    server.stop_after = None
    assert local_file(server.url).read_bytes() == server.content
    assert server.asked == [None, 'bytes=1000-']
    assert [path.name for path in d4rl_folder.iterdir()] == ['own-v2.hdf5']


def test_local_file__a_part_that_is_whole_or_of_another_file(server, d4rl_folder):
    d4rl_folder.mkdir()
    part = d4rl_folder / 'own-v2.hdf5.part'
    part.write_bytes(server.content)
    assert local_file(server.url).read_bytes() == server.content
    (d4rl_folder / 'own-v2.hdf5').unlink()
    part.write_bytes(server.content + b'more')
    assert 'is of another file and was removed: try again' in refused(server.url)
    assert local_file(server.url).read_bytes() == server.content


def test_local_file__a_transfer_of_unknown_size_is_not_trusted(server, d4rl_folder):
    server.tells_size = False
    assert f'{len(server.content):,} of an unknown number bytes came' in refused(server.url)


def test_local_file__a_failure_names_the_command(server, d4rl_folder):
    path, url = d4rl_folder / 'own-v2.hdf5', server.url
    text = refused(url, download=False)
    assert text.startswith(f'{path} is absent and downloads are switched off; with a network run: ')
    assert f'curl -L -C - -o {path} {url} ; ' in text
    assert '`dataset_path`=FILE, or export D4RL_DATASET_DIR=FOLDER' in text
    assert '404' in refused(url.replace('own-v2', 'other'))
    server.shutdown()
    server.server_close()
    assert 'the download failed (' in refused(url)


def test_local_file__a_file_that_is_there_needs_no_network(d4rl_folder):
    d4rl_folder.mkdir()
    (d4rl_folder / 'x.hdf5').write_bytes(b'')
    with contextlib.chdir(d4rl_folder):
        assert local_file('http://nowhere.invalid/x.hdf5') == d4rl_folder / 'x.hdf5'
    text = refused('http://nowhere.invalid/y.hdf5')
    assert 'the download failed (no network, or the address is unknown)' in text


def test_local_file__other_kinds_of_files_are_refused():
    text = refused('http://nowhere.invalid/x.csv')
    assert text == 'http://nowhere.invalid/x.csv: only .hdf5 and .npz files are fetched; name one'
