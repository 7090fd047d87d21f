"""Checkpoints: bit for bit, or not at all."""

import contextlib
import functools
import pathlib
import pickletools
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from dtql_jax.training import checkpoint
from dtql_jax.types import UserError
from tests.helpers import toy

pytestmark = pytest.mark.usefixtures('quick_collect')


@functools.cache
def tree(seed=0):
    """All kinds of leaves that a run has."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {'kernel': jax.random.normal(keys[0], (3, 40, 7)), 'bias': jnp.full((3, 7), -0.0)}
    return {
        'params': params,
        'opt': jax.vmap(optax.scale_by_adam().init)(params),
        'key': keys,
        'step': jnp.array([7, 7, 5], jnp.int32),
        'score': jnp.array([-jnp.inf, jnp.nan, 1e-45]),  # a subnormal number too
    }


META = {'step': 7, 'counts': [1, 2, 3], 'diverged': {'2': 5}, 'elapsed_s': 0.1 + 0.2}


def like(x):
    return jax.eval_shape(lambda: x)


def digest(tree, meta):
    return checkpoint.seal(tree, meta)['sha256']


def where(x):
    """Shapes with the sharding of a device, as a run asks for them."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), x)


def restore(folder, say=lambda text: None):
    return checkpoint.restore(folder, where(tree()), say)


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """A folder with checkpoints 1 and 2; tests that damage it take a copy."""
    folder = tmp_path_factory.mktemp('two') / 'checkpoints'
    assert checkpoint.save(folder, tree(1), {**META, 'step': 1}) == 1
    assert checkpoint.save(folder, tree(2), {**META, 'step': 2}) == 2
    return folder


@pytest.fixture
def copy(two, tmp_path):
    return pathlib.Path(shutil.copytree(two, tmp_path / 'checkpoints'))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


def test_save__a_round_trip_is_exact(two):
    restored, meta = restore(two)
    assert meta == {**META, 'step': 2}
    assert toy.equal(restored, tree(2))
    assert jax.tree.map(lambda x: x.dtype, restored) == jax.tree.map(lambda x: x.dtype, tree(2))
    assert isinstance(restored['opt'], optax.ScaleByAdamState)
    assert toy.equal(jax.random.uniform(restored['key'][1]), jax.random.uniform(tree(2)['key'][1]))


def test_seal__sees_every_leaf_every_bit_and_the_meta():
    digests = {digest(tree(), META), digest(tree(1), META)}
    digests.add(digest(tree(), {**META, 'step': 8}))
    leaves, structure = jax.tree.flatten(toy.bits(tree()))
    for i, leaf in enumerate(leaves):
        flipped = leaf.copy().reshape(-1)
        flipped.view(np.uint8)[-1] ^= 1
        changed = [*leaves[:i], flipped.reshape(leaf.shape), *leaves[i + 1 :]]
        digests.add(digest(structure.unflatten(changed), META))
    assert len(digests) == 3 + len(leaves)
    assert digest(tree(), META) in digests


def test_save__the_newest_are_kept_and_no_number_is_used_twice(tmp_path):
    folder = tmp_path / 'checkpoints'
    serials = [checkpoint.save(folder, {'x': jnp.full(2, i)}, {}) for i in range(5)]
    assert serials == [1, 2, 3, 4, 5]
    assert names(folder) == ['4', '5']
    # The same content again, and after the loss of the newest: always another number.
    assert checkpoint.save(folder, {'x': jnp.full(2, 4)}, {}) == 6
    shutil.rmtree(folder / '6')
    assert checkpoint.save(folder, {'x': jnp.full(2, 9)}, {}) == 6
    restored, _ = checkpoint.restore(folder, like({'x': jnp.full(2, 0)}), pytest.fail)
    assert jax.device_get(restored['x']).tolist() == [9, 9]


def test_save__one_that_orbax_skips_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ocp.CheckpointManager, 'save', lambda *a, **k: False)
    with pytest.raises(UserError, match='did not write checkpoint 1'):
        checkpoint.save(tmp_path / 'checkpoints', {'x': jnp.zeros(2)}, {})


# Damage.


@pytest.mark.slow
def test_restore__damage_to_any_byte_never_gives_wrong_numbers(copy):
    """One byte of each file of the newest checkpoint in turn."""
    fell_back = []
    for path in files(copy / '2'):
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :])
            said = []
            restored, meta = restore(copy, said.append)
            assert meta['step'] in (1, 2)
            assert toy.equal(restored, tree(meta['step']))
            # Either the byte does not matter, or this is the older one and the user is told.
            assert (meta['step'] == 1) == bool(said)
            assert all('checkpoint 2' in text and 'damaged' in text for text in said)
            fell_back.append((path.relative_to(copy).parts[1], bool(said)))
            path.write_bytes(whole)
    assert {part for part, fell in fell_back if fell} >= {'state', 'meta'}
    assert sum(fell for _, fell in fell_back) >= 10


@pytest.mark.parametrize('left', [0.5, None, pytest.param(0.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize('part', ['state', 'meta'])
def test_restore__a_file_that_is_cut_short_or_gone_is_damage(copy, part, left):
    for path in files(copy / '2' / part):
        whole = path.read_bytes()
        path.unlink() if left is None else path.write_bytes(whole[: int(left * len(whole))])
        said = []
        restored, meta = restore(copy, said.append)
        assert toy.equal(restored, tree(meta['step']))
        assert (meta['step'] == 1) == bool(said)
        path.write_bytes(whole)


def test_restore__the_data_itself_is_guarded(copy):
    """The largest file, which holds the arrays: here a flip would otherwise go unnoticed."""
    path = max(files(copy / '2'), key=lambda path: path.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    path.write_bytes(whole)
    said = []
    assert restore(copy, said.append)[1]['step'] == 1
    assert len(said) == 1


def test_restore__a_false_digest_or_a_changed_meta_is_damage(copy):
    (path,) = (path for path in files(copy / '2' / 'meta') if b'"step"' in path.read_bytes())
    path.write_text(path.read_text().replace('"step": 2', '"step": 3'))
    said = []
    assert restore(copy, said.append)[1]['step'] == 1
    assert 'digest' in said[0]


def test_restore__nothing_where_all_are_damaged(copy):
    for path in files(copy):
        path.write_bytes(b'\0' * path.stat().st_size)
    said = []
    with pytest.raises(UserError, match='no checkpoint can be restored') as error:
        restore(copy, said.append)
    assert len(said) == 2
    assert '\n' not in str(error.value)
    assert checkpoint.any_in(copy)  # so that a run does not start again over it


def test_save__goes_on_after_damage(copy):
    for path in files(copy / '2'):
        path.write_bytes(b'')
    assert restore(copy)[1]['step'] == 1
    assert checkpoint.save(copy, tree(3), META) == 3
    assert toy.equal(restore(copy)[0], tree(3))


def test_restore__other_shapes_are_not_forced_in(two):
    other = {**tree(), 'step': jnp.zeros(4, jnp.int32)}
    with pytest.raises(UserError, match='no checkpoint can be restored'):
        checkpoint.restore(two, where(other), lambda text: None)
    other = {**tree(), 'step': jnp.zeros(3, jnp.float32)}
    with pytest.raises(UserError, match='no checkpoint can be restored'):
        checkpoint.restore(two, where(other), lambda text: None)


# Interrupted and failed saves.


def test_restore__ignores_a_save_that_was_interrupted(copy):
    """A folder as Orbax leaves it where the process is killed: its name says it is unfinished."""
    leftover = copy / '3.orbax-checkpoint-tmp'
    shutil.copytree(copy / '2', leftover)
    (leftover / 'meta' / 'metadata').unlink()
    said = []
    assert restore(copy, said.append)[1]['step'] == 2
    assert not said
    assert checkpoint.save(copy, tree(3), META) == 3
    assert restore(copy)[1] == META
    assert names(copy) == ['2', '3']


@contextlib.contextmanager
def no_file_longer_than(size):
    """The kernel refuses longer files, in Orbax's C++ too: as good as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('size', [0, 50, 200, 1000])
def test_save__a_failing_disk_is_an_error_and_leaves_what_was(copy, size):
    with no_file_longer_than(size), pytest.raises(UserError, match=r'(?i)file too large|EFBIG'):
        checkpoint.save(copy, tree(3), META)
    restored, meta = restore(copy)
    assert toy.equal(restored, tree(2))
    assert meta['step'] == 2
    assert checkpoint.save(copy, tree(3), META) == 3
    assert toy.equal(restore(copy)[0], tree(3))


def test_restore__nothing_where_nothing_was_saved(tmp_path):
    folder = tmp_path / 'checkpoints'
    assert not checkpoint.any_in(folder)
    assert not folder.exists()
    with pytest.raises(UserError, match='no checkpoints here'):
        restore(folder)


# Formats.


def test_save__nothing_is_pickled(two):
    for path in files(two):
        assert path.suffix not in ('.pkl', '.pickle', '.pt', '.npy')
        content = path.read_bytes()
        assert content[:1] != b'\x80', f'{path} begins like a pickle'
        with pytest.raises(Exception):  # noqa: B017 - any of many, for what is no pickle
            list(pickletools.genops(content))
