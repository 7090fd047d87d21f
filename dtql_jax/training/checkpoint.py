"""Checkpoints: Orbax behind a few functions, with digests that are verified on restore.

Orbax writes atomically, but it restores a flipped bit silently and ignores a save under a number
that exists. So each save has a serial number of its own, a SHA-256 over its arrays, and one over
its JSON and that digest. A restore skips a checkpoint that it cannot read or that does not match.

Orbax reads no folder whose path has `[` (it globs), a backslash (TensorStore takes it for `/`) or
bytes that are not UTF-8. Such a folder is reached by a link with a plain path.
"""

import asyncio
import contextlib
import functools
import gc
import hashlib
import json
import logging
import pathlib
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from dtql_jax.types import UserError, outside, why

KEEP = 2  # the newest, and one to fall back on
PLAIN = re.compile(r'[\w ./,=+@%~-]*')  # paths that Orbax certainly reads
PATIENCE_SECONDS = 10.0  # for tasks that a failure leaves behind
# No damage: another user, or a machine with more memory, can read the checkpoint.
ELSEWHERE = re.compile(r'Permission ?denied|PERMISSION_DENIED|Out of memory|MemoryError', re.I)

T = TypeVar('T')
Like = Any | Callable[[Mapping[str, Any]], Any]


def seal(tree: Any, meta: dict) -> dict[str, Any]:
    """`meta`, with a SHA-256 over the arrays of a tree, and one over `meta` and that digest.

    The arrays' digest covers every leaf's path, dtype, shape and bytes.
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(jax.device_get(leaf))
        sha.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        sha.update(array.tobytes())
    arrays = sha.hexdigest()
    return {'meta': meta, 'arrays': arrays, 'sha256': _digest(meta, arrays)}


def _digest(meta: dict, arrays: str) -> str:
    return hashlib.sha256(json.dumps([meta, arrays], sort_keys=True).encode()).hexdigest()


def save(folder: pathlib.Path, tree: Any, meta: dict) -> int:
    """Writes a tree of arrays and JSON-able `meta` as the folder's next checkpoint.

    Returns:
        The checkpoint's number.

    Raises:
        UserError: it was not written, such as on a full disk. What was there before is still whole.
    """
    sealed = seal(tree, meta)
    args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(sealed))

    def write(manager: ocp.CheckpointManager) -> int:
        serial = 1 + max(manager.all_steps(), default=0)
        if not manager.save(serial, args=args):
            raise RuntimeError(f'Orbax did not write checkpoint {serial}')
        return serial

    failed = f'{folder}: the checkpoint cannot be saved'
    cure = 'make room or mend that, and continue with `resume`: the checkpoints before it are whole'
    # Not with its parents: a run folder that was removed must not come back without its files.
    with outside(failed, cure):
        folder.mkdir(exist_ok=True)
    serial, reason = _orbax(folder, write, writes=True)
    if serial is None:
        raise UserError(f'{failed}: {reason}; {cure}')
    return serial


def verify(folder: pathlib.Path, tree: Any) -> None:
    """Reads the newest checkpoint, which has just been saved from `tree`, back into host memory.

    Raises:
        UserError: it cannot be read, or is not what was saved.
    """
    serial = _serials(folder)[0]
    _, reason = _orbax(folder, functools.partial(_restore_one, serial=serial, like=on_host(tree)))
    if reason:
        raise UserError(
            f'{folder}: the checkpoint was saved but cannot be read back: {reason}; train into a '
            'folder on another disk, with `out`'
        )


def on_host(tree: Any) -> Any:
    """The shapes and dtypes of a tree, to be restored into host memory."""
    try:
        host = jax.local_devices(backend='cpu')[0]
    except RuntimeError:  # where jax may use the accelerator only
        host = jax.local_devices()[0]
    sharding = jax.sharding.SingleDeviceSharding(host)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def any_in(folder: pathlib.Path) -> bool:
    """Whether the folder has a complete checkpoint, undamaged or not."""
    return bool(_serials(folder))


def read_meta(folder: pathlib.Path) -> dict | None:
    """The `meta` of the newest checkpoint whose JSON is undamaged; None where there is none.

    It reads no arrays, which may be damaged.
    """
    for serial in _serials(folder):
        meta, _ = _orbax(folder, functools.partial(_meta_of, serial=serial))
        if meta is not None:
            return meta
    return None


def restore(folder: pathlib.Path, like: Like, say: Callable[[str], None]) -> tuple[Any, dict]:
    """The newest undamaged checkpoint: its arrays and its `meta`.

    Args:
        folder: where `save` wrote.
        like: the tree's shapes, dtypes and shardings, or a function that makes them of what the
            checkpoint tells of itself. That has dicts in place of named tuples and other nodes, and
            no entry for an empty one.
        say: called with a line about each damaged checkpoint.

    Raises:
        UserError: there is no undamaged checkpoint, or one may not or cannot be read here.
    """
    serials = _serials(folder)
    if not serials:
        raise UserError(f'{folder}: no checkpoints here; is this a run folder?')
    for serial in serials:
        one = functools.partial(_restore_one, serial=serial, like=like)
        restored, reason = _orbax(folder, one)
        if restored is not None:
            return restored
        if ELSEWHERE.search(reason):
            raise UserError(
                f'checkpoint {serial} in {folder} cannot be read here: {reason}; give permission, '
                'or use a machine with more memory'
            )
        say(f'checkpoint {serial} in {folder} is damaged, trying the one before: {reason}')
    raise UserError(f'{folder}: no checkpoint can be restored; start again with another `out`')


def _serials(folder: pathlib.Path) -> list[int]:
    """The numbers of the folder's complete checkpoints, the newest first."""
    with outside(f'{folder} cannot be read', 'give permission'):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if not names:
        return []
    serials, reason = _orbax(folder, lambda manager: sorted(manager.all_steps(), reverse=True))
    if serials is None:
        raise UserError(f'{folder} cannot be read: {reason}; restore it, or start again elsewhere')
    return serials


def _restore_one(manager: ocp.CheckpointManager, serial: int, like: Like) -> tuple[Any, dict]:
    if callable(like):
        # The files' account of themselves. The digest below covers what is read by it.
        with ocp.StandardCheckpointer() as reader:
            found = reader.metadata(manager.directory / str(serial) / 'state').item_metadata.tree
        like = like(found)
    restored = manager.restore(
        serial,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore()),
    )
    tree, sealed = restored['state'], restored['meta']
    # Orbax casts silently where `like` disagrees with the file.
    if seal(tree, sealed['meta'])['sha256'] != sealed['sha256']:
        raise ValueError('its contents do not match its digest')
    return tree, sealed['meta']


def _meta_of(manager: ocp.CheckpointManager, serial: int) -> dict:
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    sealed = manager.restore(serial, args=args)['meta']
    if _digest(sealed['meta'], sealed['arrays']) != sealed['sha256']:
        raise ValueError('its JSON does not match its digest')
    return sealed['meta']


def _orbax(
    folder: pathlib.Path, work: Callable[[ocp.CheckpointManager], T], writes: bool = False
) -> tuple[T | None, str]:
    """What Orbax makes of a folder: the result of `work` and '', or None and why it failed."""
    # Synchronous: a save that fails (a full disk) raises here and now.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEEP if writes else None,
        enable_async_checkpointing=False,
        create=False,
        read_only=not writes,
        save_interval_steps=1 if writes else 0,
    )
    with _silence():
        try:
            with (
                _plain_path(folder.absolute()) as path,
                ocp.CheckpointManager(path, options=options) as manager,
            ):
                return work(manager), ''
        # A full disk and damage may raise any error of several libraries.
        except Exception as error:
            reason = _brief(why(error))
        # Coroutines that a failure leaves behind warn when they are collected.
        gc.collect()
    return None, reason


def _brief(reason: str) -> str:
    """A reason without the pages that TensorStore adds, and without the middle of a long one."""
    reason = re.split(r' \[(?:tensorstore_spec|source locations)', reason)[0]
    return reason if len(reason) <= 200 else f'{reason[:90]} ... {reason[-100:]}'


@contextlib.contextmanager
def _plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path of the folder that Orbax can read: its own, or that of a link to it."""
    if PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as above:
        link = pathlib.Path(above) / 'checkpoints'
        link.symlink_to(folder, target_is_directory=True)
        yield link


class _QuietLoop(asyncio.SelectorEventLoop):
    """An event loop that ends its tasks before it closes, and keeps their errors to itself.

    Where a task of Orbax fails, it closes the loop on the others. Their reads would come to a
    closed loop and their errors to nobody: a traceback on stderr for each, whenever that may be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_exception_handler(lambda loop, context: None)

    def close(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.is_closed() and time.monotonic() < end:
            if not (tasks := asyncio.all_tasks(self)):
                break
            self.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE_SECONDS))
        super().close()


def _of_no_thread(record: logging.LogRecord) -> bool:
    """Whether a log record is not of Orbax's threads, which tell their errors after the save's."""
    return '/orbax/checkpoint/_src/futures/' not in record.pathname


logging.getLogger('absl').addFilter(_of_no_thread)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drops what Orbax logs and warns of: the caller says what is wrong, in one line."""
    log = logging.getLogger('absl')
    before = log.disabled, sys.unraisablehook, asyncio.new_event_loop
    try:
        log.disabled = True
        sys.unraisablehook = lambda _: None
        asyncio.new_event_loop = _QuietLoop
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        log.disabled, sys.unraisablehook, asyncio.new_event_loop = before
