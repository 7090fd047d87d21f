"""Where Minari sets lie, and what their metadata say; without Minari's reader.

That reader imports what a set names before anything can be checked.

Worker processes import this module, so it imports no jax.
"""

import importlib.metadata
import json
import os
import re
from pathlib import Path
from typing import Any

from dtql_jax.tasks.unreadable import explained
from dtql_jax.types import UserError, user_path

ROOT = 'MINARI_DATASETS_PATH'
ID = re.compile(r'[-\w][-\w/]*-v\d+')


def minari_folder(name: str) -> Path:
    """The folder of a Minari dataset, given its id or the folder itself. It may not exist."""
    if is_folder(Path(name, 'data')):
        return Path(name)
    return minari_root() / name


def minari_root() -> Path:
    """The folder of Minari's datasets. It may not exist.

    Minari reads the variable too, and would take `~` for the name of a folder.

    Raises:
        UserError: the home folder is unknown, or the folder cannot be looked at.
    """
    root = user_path(ROOT, os.environ.get(ROOT, '~/.minari/datasets'))
    if ROOT in os.environ:
        os.environ[ROOT] = str(root)
    return root


def is_folder(path: Path) -> bool:
    """Whether there is a folder; raises UserError where that may not be known."""
    with explained(str(path)):
        return path.is_dir()


def own_folder(name: str) -> str:
    """A Minari id as it is; a folder by its absolute path, which every process finds.

    Raises:
        UserError: `name` is blank.
    """
    if not name.strip():
        raise UserError(f"'minari:{name}' names no dataset: write minari:<dataset id>")
    folder = user_path('env', name).absolute()
    return name if ID.fullmatch(name) and not is_folder(folder / 'data') else str(folder)


def read_metadata(name: str) -> dict[str, Any]:
    """What `metadata.json` of a Minari set holds, unchecked.

    Raises:
        UserError: it cannot be read, or is no JSON object.
    """
    path = minari_folder(name) / 'data' / 'metadata.json'
    with explained(str(path), damaged(name)):
        metadata = json.loads(path.read_text())
        return dict(metadata.items())


def damaged(name: str) -> str:
    """What helps where a file of the set `name` is damaged. Only a download may be removed."""
    folder = minari_folder(name)
    for parent in folder.parents:
        mark = parent / '.cache' / 'huggingface' / 'download' / folder.relative_to(parent)
        if mark.exists():  # the hub's client leaves it where it downloads to
            return f'it was downloaded: remove {folder} and run: minari download {name}'
    return f'restore {folder} from where it came, or record the set again under another name'


def unmet_requirements(requirements: Any) -> list[str]:
    """Requirements of a set that the installed packages do not meet, quoted for a shell."""
    from packaging.requirements import InvalidRequirement, Requirement

    unmet = []
    for text in requirements if isinstance(requirements, list) else []:
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError):
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue  # it is meant for other systems
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f'"{requirement}"')
    return unmet
