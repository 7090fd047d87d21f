"""The source of a cached dataset: whether it is still what was read."""

from pathlib import Path
from typing import Any

import h5py


def state_of(source: Path) -> dict[str, Any]:
    """The state of a file or of the files of a folder, as JSON returns it.

    It is the path, size and two times of each file: the contents' time can be set back, the inode's
    cannot. Linked files are followed. Linked folders are not entered: see `elsewhere`.
    """
    files = sorted(source.rglob('*')) if source.is_dir() else [source]
    seen = []
    for path in files:
        if not path.is_dir():
            stat, name = path.stat(), str(path.relative_to(source))
            target = str(path.resolve()) if path.is_symlink() else name
            seen.append([name, target, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
    return {'source': str(source.resolve()), 'files': seen}


def elsewhere(source: Path) -> str | None:
    """What in a source, which can be read, leads to files that `state_of` does not see."""
    files = sorted(source.rglob('*')) if source.is_dir() else [source]
    for path in files:
        if path.is_dir():
            if path.is_symlink():
                return str(path)
        elif h5py.is_hdf5(path) and (name := _leaving(path)):
            return f'{path}:{name}'
    return None


def _leaving(path: Path) -> str | None:
    """What in an hdf5 file leads to others; `/` where damage to parts that nobody read hides it."""
    try:
        with h5py.File(path, 'r') as file:
            return file.visititems_links(_outward) or file.visititems(_spread)
    except Exception:  # of hdf5, which raises any kind
        return '/'


def _outward(name: str, link: Any) -> str | None:
    """The name of a link into another file."""
    return name if isinstance(link, h5py.ExternalLink) else None


def _spread(name: str, stored: Any) -> str | None:
    """The name of an array whose numbers lie in other files."""
    array = isinstance(stored, h5py.Dataset)
    return name if array and (stored.is_virtual or stored.external) else None
