"""Files at an address, fetched once. A broken transfer resumes; only whole files are used."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from dtql_jax.types import UserError, user_path

# suffix -> (variable that names the folder, the default folder), as d4rl and ogbench have them
FOLDERS = {
    '.hdf5': ('D4RL_DATASET_DIR', '~/.d4rl/datasets'),
    '.npz': ('OGBENCH_DATASET_DIR', '~/.ogbench/data'),
}
ANSWER_S = 10  # how long a server may take to answer
CHUNK = 1 << 20  # bytes


def local_file(url: str, *, download: bool = True) -> Path:
    """The path of the local copy of the file at `url`, which is fetched if absent.

    A transfer writes `<name>.part`, which the next call continues. It becomes the file once it has
    the size that the server told.

    Args:
        url: the address of an hdf5 or npz file.
        download: whether an absent file may be fetched.

    Raises:
        UserError: the file cannot be had. The text names the command that fetches it by hand.
    """
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition('/')[2])
    if Path(name).suffix not in FOLDERS:
        raise UserError(f'{url}: only {" and ".join(FOLDERS)} files are fetched; name one')
    variable, default = FOLDERS[Path(name).suffix]
    path = user_path(variable, os.environ.get(variable) or default) / name
    if path.is_file():
        return path
    reason = 'downloads are switched off'
    if download:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f'downloading {url} to {path.parent} ...', flush=True)
            _fetch(url, path)
            return path
        except (OSError, http.client.HTTPException) as error:
            reason = f'the download failed ({_words(error)})'
    raise UserError(
        f'{path} is absent and {reason}; with a network run: mkdir -p {path.parent} && '
        f'curl -L -C - -o {path} {url} ; or say where it lies: `dataset_path`=FILE, or export '
        f'{variable}=FOLDER'
    )


def _fetch(url: str, path: Path) -> None:
    """Transfers the file, or the rest of it. Raises OSError where the transfer breaks off."""
    part = path.with_name(path.name + '.part')
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=ANSWER_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is whole already, or of another file
            raise
        total = _number(r'bytes \*/(\d+)', error.headers.get('Content-Range'))
        if total != have:
            part.unlink()
            raise OSError(f'{part} is of another file and was removed: try again') from None
        part.rename(path)
        return
    with answer:
        if answer.status == 206:
            total = _number(r'bytes .*/(\d+)', answer.headers.get('Content-Range'))
        else:  # the server sends everything again
            have, total = 0, _number(r'(\d+)', answer.headers.get('Content-Length'))
        mode = 'ab' if have else 'wb'
        with part.open(mode) as file, contextlib.suppress(http.client.IncompleteRead):
            shutil.copyfileobj(answer, file, CHUNK)
    size = part.stat().st_size
    if total is None or size != total:
        told = 'an unknown number' if total is None else f'{total:,}'
        raise OSError(f'{size:,} of {told} bytes came; the next call continues there')
    part.rename(path)


def _number(pattern: str, text: str | None) -> int | None:
    """The number in a header; None where the header is absent or of another form."""
    match = re.fullmatch(pattern, text or '')
    return int(match[1]) if match else None


def _words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(getattr(error, 'reason', None), socket.gaierror):
        return 'no network, or the address is unknown'
    return ' '.join(str(error).split())[:200] or type(error).__name__
