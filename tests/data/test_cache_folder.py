"""The cache's folder may hold other people's work: only what was written here is removed."""

import json
import os
import shutil
import threading

import numpy as np
import pytest

from dtql_jax.data import cache
from dtql_jax.data.load import load
from dtql_jax.tasks.task import Task
from tests.helpers.cache import entries, equal
from tests.helpers.minari_sets import OWN, episode, write
from tests.helpers.permissions import obeying_permissions

DIGEST = '0123456789abcdef' * 2  # a name like an entry's


def store_another(number=0):
    """Reads another set, so that its entry is written and the folder tidied."""
    write(f'me/more{number}-v0', [episode(0, 3)])
    return load(Task('more', (f'me/more{number}-v0',)))


def content(top):
    """All that a folder holds: paths, link targets and bytes."""
    return {
        str(path.relative_to(top)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in top.rglob('*')
    }


def foreign(top, entry):
    """Things of other people, some of which look like an entry."""
    (top / 'thesis').mkdir()
    (top / 'thesis' / 'chapter1.tex').write_text('years of work')
    (top / 'notes.txt').write_text('notes')
    (top / '.git').mkdir()
    (top / '.git' / 'HEAD').write_text('ref')
    (top / 'empty').mkdir()
    (top / DIGEST).mkdir()
    (top / DIGEST / 'obs.npy').write_bytes(b'mine')
    (top / DIGEST / 'entry.json').write_text('{"sha256": "", "content": {}}')
    shutil.copytree(entry, top / DIGEST[::-1])  # sealed, but under another name
    (top / ('e' * 32)).symlink_to(entry)
    (top / 'dangling').symlink_to(top / 'nowhere')
    (top / '.dtql_jax-mine').mkdir()
    (top / '.dtql_jax-mine' / 'obs.npy').write_bytes(b'mine')
    (top / '.dtql_jax-marked' / 'new').mkdir(parents=True)
    (top / '.dtql_jax-marked' / cache.MARK).touch()
    (top / '.dtql_jax-marked' / 'new' / 'mine.npy').write_bytes(b'mine')
    (top / '.tmp').mkdir()
    for path in top.iterdir():
        if path.name.startswith('.'):
            os.utime(path, (0, 0))


def test_cached__leaves_what_it_did_not_write(own, folder, root):
    (entry,) = entries(folder)
    foreign(folder, entry)
    shutil.rmtree(root / 'me' / 'own-v0')
    before = {name: held for name, held in content(folder).items() if entry.name not in name}
    store_another()
    assert not entry.exists()
    after = content(folder)
    assert {name: after.get(name, 'gone') for name in before} == before
    assert equal(store_another(1), load(Task('more', ('me/more1-v0',))))


def test_cached__an_entry_with_a_foreign_file_stays(own, folder, root):
    (entry,) = entries(folder)
    (entry / 'thesis.tex').write_text('years of work')
    shutil.rmtree(root / 'me' / 'own-v0')
    before = content(entry)
    store_another()
    assert content(entry) == before


@pytest.mark.parametrize('kind', ['a file in it', 'a linked file', 'a linked folder', 'a file'])
def test_cached__foreign_things_in_an_entrys_place_are_not_replaced(
    own,
    folder,
    tmp_path_factory,
    capsys,
    kind,
):
    (entry,) = entries(folder)
    outside = tmp_path_factory.mktemp('outside')
    (outside / 'obs.npy').write_bytes(b'years of work')
    if kind == 'a file in it':
        (entry / 'entry.json').unlink()
        (entry / 'thesis.tex').write_text('years of work')
    elif kind == 'a linked file':
        (entry / 'obs.npy').unlink()
        (entry / 'obs.npy').symlink_to(outside / 'obs.npy')
    else:
        shutil.rmtree(entry)
        entry.symlink_to(outside) if kind == 'a linked folder' else entry.write_text('mine')
    before = content(folder), content(outside)
    assert equal(load(OWN), own)
    assert (content(folder), content(outside)) == before
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith('me/own-v0: not cached for the next time (')
    assert f'{entry} holds other files' in line


def test_cached__an_entry_whose_file_is_a_link_to_the_same_bits_is_read(own, folder, unread):
    (entry,) = entries(folder)
    (entry / 'obs.npy').rename(folder / 'moved.npy')
    (entry / 'obs.npy').symlink_to(folder / 'moved.npy')
    assert equal(load(OWN), own)


def test_cached__removes_entries_without_a_source_and_what_killed_processes_left(own, folder, root):
    (first,) = entries(folder)
    shutil.rmtree(root / 'me' / 'own-v0')
    old, new = folder / '.dtql_jax-old', folder / '.dtql_jax-new'
    for hidden in (old, new):
        (hidden / 'new').mkdir(parents=True)
        (hidden / cache.MARK).touch()
        (hidden / 'new' / 'obs.npy').write_bytes(b'half')
    os.utime(old, (0, 0))
    store_another()
    (second,) = entries(folder)
    assert second != first
    assert (old.exists(), new.exists()) == (False, True)


def test_cached__an_entry_whose_source_may_not_be_looked_at_stays(own, folder, root):
    (entry,) = entries(folder)
    os.chmod(root / 'me', 0)
    try:
        with obeying_permissions():
            cache._tidy(folder)
    finally:
        os.chmod(root / 'me', 0o755)
    assert entry.exists()


def test_cached__a_read_only_folder_serves_and_stops_nothing(own, folder, capsys, request):
    os.chmod(folder, 0o555)
    try:
        with obeying_permissions():
            assert store_another().card['transitions'] == 3
            (line,) = capsys.readouterr().out.splitlines()
            assert line.startswith('me/more0-v0: not cached for the next time (')
            request.getfixturevalue('unread')
            assert equal(load(OWN), own)
    finally:
        os.chmod(folder, 0o755)


@pytest.mark.parametrize('value', ['file', '~/cache', 'relative'])
def test_cached__the_variable_may_name_a_file_the_home_or_a_relative_path(
    root, tmp_path_factory, monkeypatch, capsys, value
):
    home = tmp_path_factory.mktemp('home')
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.chdir(home)
    (home / 'file').write_text('mine')
    monkeypatch.setenv('DTQL_DATA_CACHE', value)
    write('me/own-v0', [episode(0, 3)])
    first = load(OWN)
    out = capsys.readouterr().out
    assert equal(load(OWN), first)
    if value == 'file':
        assert out.startswith('me/own-v0: not cached for the next time (')
        assert (home / 'file').read_text() == 'mine'
    else:
        assert len(entries(home / value.removeprefix('~/'))) == 1
        assert out == ''


def test_cached__two_writers_of_one_entry(root, folder, capsys):
    write('me/own-v0', [episode(0, 3)])
    both, results = threading.Barrier(2), []
    real = cache._save

    def together(path, array):
        if path.name == 'length.npy':
            both.wait(60)
        return real(path, array)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, '_save', together)
        threads = [threading.Thread(target=lambda: results.append(load(OWN))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert equal(*results)
    assert [path.name for path in folder.iterdir()] == [entries(folder)[0].name]
    index = json.loads((entries(folder)[0] / 'entry.json').read_text())
    assert index['content']['max_action'] == 1
    assert np.load(entries(folder)[0] / 'reward.npy').shape == (3,)
    assert capsys.readouterr().out == ''
