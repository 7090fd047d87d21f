"""One process at a time trains in a run folder."""

import fcntl
import os
import re
import socket
import subprocess
import sys

import pytest

from dtql_jax.runs.lock import InUse, hold, take
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions

HOLDER = """
import pathlib, sys
from dtql_jax.runs.lock import hold
with hold(pathlib.Path(sys.argv[1]), print):
    print('held', flush=True)
    sys.stdin.read()
"""


def refused(folder):
    """The line that says who holds the folder."""
    with pytest.raises(UserError) as error, hold(folder, pytest.fail):
        pass
    assert '\n' not in str(error.value)
    return str(error.value)


def test_hold__the_other_says_who_holds_it_and_since_when(tmp_path):
    with hold(tmp_path, pytest.fail) as check:
        (tmp_path / 'config.json').touch()
        text = refused(tmp_path)  # of another thread or another run of this process too
        check()
    who = f'{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}, since '
    assert text.startswith(who)
    assert re.search(r'since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: wait for its end or stop it', text)
    with hold(tmp_path, pytest.fail) as check:
        check()


def test_take__locks_any_file_for_a_folder(tmp_path):
    path = tmp_path / 'x.lock'
    with take(path, tmp_path / 'x', pytest.fail):
        error = pytest.raises(InUse, match=f'x is in use by process {os.getpid()}')
        with error, take(path, tmp_path / 'x', pytest.fail):
            pass
        with take(tmp_path / 'y.lock', tmp_path / 'y', pytest.fail):
            pass


def test_hold__the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == 'held\n'
        assert f'process {process.pid} on' in refused(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert f'process {process.pid} ' in (tmp_path / '.lock').read_text()
    with hold(tmp_path, pytest.fail):
        assert f'process {os.getpid()} ' in (tmp_path / '.lock').read_text()


@pytest.mark.parametrize('how', ['folder', '.lock', 'config.json', 'replaced'])
def test_check__a_folder_that_is_no_longer_ours(tmp_path, how):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'config.json').touch()
    with hold(folder, pytest.fail) as check:
        check()
        if how == 'folder':
            folder.rename(tmp_path / 'other')
        elif how == 'replaced':  # another process could take the lock now
            (folder / '.lock').unlink()
            (folder / '.lock').touch()
        else:
            (folder / how).unlink()
        with pytest.raises(UserError, match=r'removed, moved or replaced.*`resume`') as error:
            check()
    assert '\n' not in str(error.value)


def test_hold__without_locks_in_the_file_system_it_warns_and_goes_on(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', flock)
    warnings = []
    (tmp_path / 'config.json').touch()
    with hold(tmp_path, warnings.append) as check:
        check()
    assert warnings == [
        f'{tmp_path} cannot be locked (Function not implemented): let no other process train in it'
    ]


def test_hold__in_a_read_only_folder_is_one_line(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir(0o555)
    with obeying_permissions():
        assert 'cannot be written: Permission denied' in refused(folder)
    folder.chmod(0o755)
    with hold(folder, pytest.fail):
        pass
