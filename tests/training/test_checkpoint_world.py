"""Checkpoints on other people's disks: odd paths, damage without noise, permissions."""

import asyncio
import contextlib
import gc
import logging
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import pytest
from orbax.checkpoint._src.futures import future

from dtql_jax.training import checkpoint
from dtql_jax.types import UserError
from tests.helpers import toy
from tests.helpers.permissions import obeying_permissions

pytestmark = pytest.mark.usefixtures('quick_collect')

TREE = {str(i): jnp.arange(5.0) + i for i in range(12)}


def like(tree=TREE):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A folder with two checkpoints."""
    folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
    for step in (1, 2):
        checkpoint.save(folder, TREE, {'step': step})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of them."""
    return pathlib.Path(shutil.copytree(saved, tmp_path / 'checkpoints'))


def one_line(error):
    assert '\n' not in str(error.value)
    return str(error.value)


# Paths.


@pytest.mark.parametrize(
    'name', ['a[b]', 'a\\b', '[', '[!x]', 'a*?', '\udcff', 'gs:', 'ü n#1', 'a\tb', '%5B~$HOME']
)
def test_save__into_a_folder_of_any_name_and_back(tmp_path, name):
    folder = tmp_path / name / 'checkpoints'
    folder.parent.mkdir()
    assert checkpoint.save(folder, TREE, {'step': 1}) == 1
    checkpoint.verify(folder, TREE)
    assert checkpoint.save(folder, TREE, {'step': 2}) == 2
    assert sorted(path.name for path in folder.iterdir()) == ['1', '2']
    assert [path.name for path in tmp_path.iterdir()] == [name]
    tree, meta = checkpoint.restore(folder, like(), pytest.fail)
    assert toy.equal(tree, TREE)
    assert meta == checkpoint.read_meta(folder) == {'step': 2}


def test_save__from_a_working_directory_with_brackets(tmp_path, monkeypatch):
    (tmp_path / 'run[1]').mkdir()
    monkeypatch.chdir(tmp_path / 'run[1]')
    for step in (1, 2):
        checkpoint.save(pathlib.Path('checkpoints'), TREE, {'step': step})
    _, meta = checkpoint.restore(pathlib.Path('checkpoints'), like(), pytest.fail)
    assert meta == {'step': 2}


def test_verify__a_save_that_cannot_be_read_back_is_one_line(folder):
    """A file system that gives back something else than was written."""
    data = max(folder.glob('2/**/*'), key=lambda path: path.is_file() and path.stat().st_size)
    data.write_bytes(b'\0' * data.stat().st_size)
    with pytest.raises(UserError, match=r'was saved but cannot be read back: .*`out`') as error:
        checkpoint.verify(folder, TREE)
    one_line(error)


# Damage.


def lost(path):
    path.unlink()


def zeros(path):
    path.write_bytes(b'\0' * path.stat().st_size)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SLOWER = [pytest.param(harm, marks=pytest.mark.slow) for harm in (lost, cut)]


@pytest.mark.parametrize('harm', [zeros, *SLOWER])
@pytest.mark.parametrize('part', ['d/', 'manifest', '_METADATA', '_CHECKPOINT_METADATA', 'meta/'])
def test_restore__damage_says_its_lines_and_nothing_else(folder, capfd, caplog, harm, part):
    """Also later, when what a failure left behind is collected."""
    for path in folder.rglob('*'):
        if path.is_file() and part in str(path.relative_to(folder)):
            harm(path)
    said = []
    caplog.set_level(logging.DEBUG, 'asyncio')
    with contextlib.suppress(UserError):
        checkpoint.restore(folder, like(), said.append)
    checkpoint.read_meta(folder)
    time.sleep(0.2)  # reads that were under way
    gc.collect()
    assert capfd.readouterr() == ('', '')
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) in (0, 2)
    assert all('damaged' in text and '\n' not in text and len(text) < 500 for text in said)
    assert asyncio.new_event_loop is not checkpoint._QuietLoop
    assert not logging.getLogger('absl').disabled
    assert checkpoint.save(folder, TREE, {'step': 3}) >= 1
    assert checkpoint.restore(folder, like(), pytest.fail)[1] == {'step': 3}


def test_read_meta__comes_without_the_arrays_and_from_the_one_before(folder, tmp_path):
    for path in folder.glob('*/state/**/*'):
        if path.is_file():
            path.unlink()
    assert checkpoint.read_meta(folder) == {'step': 2}
    (path,) = (p for p in folder.glob('2/meta/*') if b'"step"' in p.read_bytes())
    path.write_text(path.read_text().replace('"step": 2', '"step": 3'))
    assert checkpoint.read_meta(folder) == {'step': 1}
    assert checkpoint.read_meta(tmp_path / 'nowhere') is None


def test_any_in__a_folder_of_other_things(tmp_path):
    assert not checkpoint.any_in(tmp_path)
    (tmp_path / 'notes.txt').write_text('x')
    (tmp_path / 'folder').mkdir()
    (tmp_path / '7.orbax-checkpoint-tmp').mkdir()
    assert not checkpoint.any_in(tmp_path)
    assert not checkpoint.any_in(tmp_path / 'notes.txt')
    with pytest.raises(UserError, match='no checkpoints here'):
        checkpoint.restore(tmp_path, like(), pytest.fail)
    (tmp_path / '4').mkdir()  # empty
    said = []
    with pytest.raises(UserError, match='no checkpoint can be restored') as error:
        checkpoint.restore(tmp_path, like(), said.append)
    one_line(error)
    assert len(said) <= 1
    assert checkpoint.save(tmp_path, TREE, {'step': 1}) == 5
    assert checkpoint.restore(tmp_path, like(), pytest.fail)[1] == {'step': 1}


# Folders that one may not read or write, or that are gone.


def test_save__into_a_folder_that_is_gone_does_not_bring_it_back(tmp_path):
    with pytest.raises(UserError, match=r'cannot be saved: No such file.*`resume`') as error:
        checkpoint.save(tmp_path / 'run' / 'checkpoints', TREE, {})
    one_line(error)
    assert not (tmp_path / 'run').exists()
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match='cannot be saved'):
        checkpoint.save(tmp_path / 'file', TREE, {})


def test_save__into_a_read_only_folder_is_one_line(folder):
    folder.chmod(0o555)
    try:
        with obeying_permissions():
            with pytest.raises(UserError, match=r'cannot be saved: .*[Pp]ermission') as error:
                checkpoint.save(folder, TREE, {'step': 3})
            # It can be read all the same, as an evaluation does.
            assert checkpoint.restore(folder, like(), pytest.fail)[1] == {'step': 2}
    finally:
        folder.chmod(0o755)
    one_line(error)
    assert checkpoint.save(folder, TREE, {'step': 3}) == 3


def test_restore__what_one_may_not_read_is_not_called_damaged(folder):
    hidden = [path for path in folder.glob('2/state/**/*') if path.is_file()]
    for path in hidden:
        path.chmod(0)
    with obeying_permissions(), pytest.raises(UserError, match='cannot be read here') as error:
        checkpoint.restore(folder, like(), pytest.fail)
    assert 'ermission' in one_line(error)
    for path in hidden:
        path.chmod(0o644)
    assert checkpoint.restore(folder, like(), pytest.fail)[1] == {'step': 2}
    folder.chmod(0)
    try:
        with obeying_permissions(), pytest.raises(UserError, match='cannot be read: Permission'):
            checkpoint.restore(folder, like(), pytest.fail)
    finally:
        folder.chmod(0o755)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match='no checkpoints here'):
        checkpoint.restore(folder, like(), pytest.fail)


def test_silence__a_thread_of_orbax_that_fails_later_says_nothing(capfd, caplog):
    """Where a save fails in the main thread, those beside it fail after it was told."""

    def fail():
        raise OSError(28, 'No space left on device')

    thread = future._SignalingThread(target=fail, send_signals=(), receive_signals=())
    thread.start()
    with pytest.raises(OSError, match='No space left'):
        thread.join()
    assert capfd.readouterr() == ('', '')
    assert not caplog.records
