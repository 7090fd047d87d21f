"""The file `config.json` of a run folder: it is sealed, and read without jax.

It holds: `format`, `request` (what the user asked for), `identity` (all that decides the numbers),
`agent_file` and `agent_class` (where an agent of the user's own is defined), `spec`, `data` (the
card of the dataset), `versions`, `commit` (of this package's code, null if unknown), `devices` and
`compiler` (settings of jax and XLA). Its `sha256` covers the rest, so that no edit changes a result
unnoticed.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from dtql_jax.types import UserError, outside

CONFIG = 'config.json'
FORMAT = 3  # of that file: add one where older files can no longer be read
CURE = 'restore the file, or train again with another `out`'


def seal(description: Mapping[str, Any]) -> str:
    """SHA-256 of what a `config.json` says, however it is laid out."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def parse_config(run_dir: pathlib.Path) -> tuple[dict[str, Any], bool]:
    """What the `config.json` of a run folder says, and whether its seal holds.

    Raises:
        UserError: there is none, it is no JSON, or another version of this package wrote it.
    """
    path = run_dir / CONFIG
    with outside(f'{path} cannot be read', 'give permission, or restore the file'):
        text = path.read_text() if path.exists() else None
    if text is None:
        raise UserError(f'{run_dir} is no run folder (no {CONFIG}): check the path')
    with outside(f'{path} is damaged', CURE):
        description = json.loads(text)
    found = description.get('format', 1) if isinstance(description, dict) else None
    if found != FORMAT:
        raise UserError(
            f'{path} has format {found}, and this version of dtql_jax reads format {FORMAT} only: '
            'train again, or use the version that made the run'
        )
    sealed = description.pop('sha256', None)
    return description, sealed == seal(description)


def read_config(run_dir: pathlib.Path) -> dict[str, Any]:
    """What the `config.json` of a run folder says; no checkpoint is opened to compare it with.

    Raises:
        UserError: there is none, it was edited, or another version of this package wrote it.
    """
    description, sound = parse_config(run_dir)
    if not sound:
        raise UserError(f'{run_dir / CONFIG} was edited or is damaged: {CURE}')
    return description
