"""Checkpoints: Orbax behind a few functions, with a digest that is verified on restore.

Orbax writes atomically, but it restores a flipped bit silently and ignores a save under a number
that exists. So each save has a serial number of its own and a SHA-256 over its arrays and its JSON.
A restore skips a checkpoint that it cannot read or that does not match its digest.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from dtql_jax.types import UserError

KEEP = 2  # the newest, and one to fall back on


def _manager(folder: pathlib.Path) -> ocp.CheckpointManager:
    # Synchronous: a save that fails (a full disk) raises here and now.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEEP, enable_async_checkpointing=False, create=True
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def digest(tree: Any, meta: dict) -> str:
    """SHA-256 over every leaf's path, dtype, shape and bytes, and over `meta` as sorted JSON."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(jax.device_get(leaf))
        sha.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        sha.update(array.tobytes())
    sha.update(json.dumps(meta, sort_keys=True).encode())
    return sha.hexdigest()


def save(folder: pathlib.Path, tree: Any, meta: dict) -> int:
    """Writes a tree of arrays and JSON-able `meta` as the folder's next checkpoint.

    Returns:
        The checkpoint's number.

    Raises:
        RuntimeError: Orbax did not write it. A full disk raises Orbax's own error.
    """
    with _manager(folder) as manager:
        serial = 1 + max(manager.all_steps(), default=0)
        sealed = {'meta': meta, 'sha256': digest(tree, meta)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(sealed))
        if not manager.save(serial, args=args):
            raise RuntimeError(f'{folder}: Orbax did not write checkpoint {serial}')
    return serial


def any_in(folder: pathlib.Path) -> bool:
    """Whether the folder has a complete checkpoint, undamaged or not."""
    if not folder.is_dir():
        return False
    with _manager(folder) as manager:
        return bool(manager.all_steps())


def restore(
    folder: pathlib.Path, like: Any, say: Callable[[str], None] = logging.warning
) -> tuple[Any, dict]:
    """The newest undamaged checkpoint: its arrays and its `meta`.

    Args:
        folder: where `save` wrote.
        like: the tree's shapes, dtypes and shardings.
        say: called with a line about each damaged checkpoint.

    Raises:
        UserError: there is no undamaged checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: no checkpoints here; is this a run folder?')
    with _manager(folder) as manager:
        for serial in sorted(manager.all_steps(), reverse=True):
            try:
                return _restore_one(manager, serial, like)
            # Damage may raise any error of several libraries.
            except Exception as error:
                reason = (str(error).strip() or repr(error)).splitlines()[0]
                say(f'checkpoint {serial} in {folder} is damaged, trying the one before: {reason}')
    raise UserError(f'{folder}: no checkpoint can be restored; start again with another `out`')


def _restore_one(manager: ocp.CheckpointManager, serial: int, like: Any) -> tuple[Any, dict]:
    restored = manager.restore(
        serial,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore()),
    )
    tree, sealed = restored['state'], restored['meta']
    # Orbax casts silently where `like` disagrees with the file.
    if digest(tree, sealed['meta']) != sealed['sha256']:
        raise ValueError('its contents do not match its digest')
    return tree, sealed['meta']
