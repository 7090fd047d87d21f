"""Files at an address, fetched once. A broken transfer resumes; only whole files are used.

A proxy or a server may answer with something else, such as a page to log in, and say that all is
well. A transfer whose beginning is that of no such file is removed, and the message says what came.
"""

import contextlib
import errno
import fcntl
import http.client
import io
import os
import re
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dtql_jax.types import UserError, outside

# suffix -> (variable that names the folder, the default folder), as d4rl and ogbench have them
FOLDERS = {
    '.hdf5': ('D4RL_DATASET_DIR', '~/.d4rl/datasets'),
    '.npz': ('OGBENCH_DATASET_DIR', '~/.ogbench/data'),
}
ANSWER_S = 10  # how long a server may take to answer
CHUNK = 1 << 20  # bytes
HDF5, ZIP = b'\x89HDF\r\n\x1a\n', b'PK\x03\x04'  # the first bytes of a file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    path, variable = _place(url)
    if path.is_file():
        with outside(f'{path} cannot be read', 'give this user the right to read it'):
            kind = _stranger(path)
        if kind:
            cure = f'remove it, and the next call fetches it from {url}'
            raise UserError(f'{path} is {kind}, no {path.suffix} file; {cure}')
        return path
    reason = 'downloads are switched off'
    if download:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f'downloading {url} to {path.parent} ...', flush=True)
            _fetch(url, path)
            return path
        except (OSError, ValueError, http.client.HTTPException) as error:
            if getattr(error, 'errno', None) in FULL:
                raise UserError(
                    f'{url}: no space is left in {path.parent} for it; make room there (the next '
                    f'call continues), or export {variable}=FOLDER'
                ) from error
            reason = f'the download failed ({_words(error)})'
    raise UserError(
        f'{path} is absent and {reason}; with a network run: mkdir -p {path.parent} && '
        f'curl -L -C - -o {path} {url} ; or say where it lies: `dataset_path`=FILE, or export '
        f'{variable}=FOLDER'
    )


def _place(url: str) -> tuple[Path, str]:
    """The path of the local copy, and the variable that names its folder."""
    with outside(f'{url} is no address', 'give one like https://host/folder/name.hdf5'):
        name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    if Path(name).suffix not in FOLDERS:
        raise UserError(f'{url}: only {" and ".join(FOLDERS)} files are fetched; name one')
    variable, default = FOLDERS[Path(name).suffix]
    folder = os.environ.get(variable) or default
    with outside(f'{folder}: the home folder is not known', f'export {variable}=/path/to/a/folder'):
        return Path(folder).expanduser() / name, variable


def _fetch(url: str, path: Path) -> None:
    """Transfers the file, or the rest of it. Raises OSError where that does not succeed."""
    part = path.with_name(path.name + '.part')
    with _alone(part):
        if path.is_file():  # another process was faster
            part.unlink(missing_ok=True)
            return
        total = _transfer(url, part)
        size = part.stat().st_size
        if kind := _stranger(part):
            _discard(part)
            raise OSError(f'{kind} came, no {path.suffix} file, and was removed')
        if total is None or size != total:
            told = 'an unknown number' if total is None else f'{total:,}'
            raise OSError(f'{size:,} of {told} bytes came; the next call continues there')
        part.rename(path)
        _tag(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Holds the lock of a transfer: two processes would mix their bytes."""
    with part.open('ab') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError('another process is downloading it: wait until it is done') from None
        except OSError:  # some network disks have no locks
            pass
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _tag(part: Path) -> Path:
    """The file that holds the server's mark of the version that a part is of."""
    return part.with_name(part.name + '.version')


def _transfer(url: str, part: Path) -> int | None:
    """Appends what is missing to the part; returns the size of the whole as the server told."""
    have = part.stat().st_size
    tag = _tag(part).read_text() if have and _tag(part).exists() else ''
    asked = {'Range': f'bytes={have}-', **({'If-Range': tag} if tag else {})} if have else {}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=asked), timeout=ANSWER_S
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is whole already, or of another file
            raise
        if _number(r'bytes \*/(\d+)', error.headers.get('Content-Range')) != have:
            _discard(part)
            raise OSError(f'{part} is of another file and was removed: try again') from None
        return have
    with answer:
        if (
            answer.status == 206
            and _number(r'bytes (\d+)-.*', answer.headers['Content-Range']) == have
        ):
            total = _number(r'bytes .*/(\d+)', answer.headers['Content-Range'])
        elif answer.status == 206:
            raise OSError('the server sent another part than was asked for')
        else:  # the server sends everything again
            have, total = 0, _number(r'(\d+)', answer.headers['Content-Length'])
            version = answer.headers['ETag'] or answer.headers['Last-Modified']
            if version and not version.startswith('W/'):
                _tag(part).write_text(version)
        with part.open('r+b') as file, contextlib.suppress(http.client.IncompleteRead):
            file.truncate(have)
            file.seek(have)
            shutil.copyfileobj(answer, file, CHUNK)
    return total


def _discard(part: Path) -> None:
    """Removes a part, so that the next call starts afresh."""
    part.unlink()
    _tag(part).unlink(missing_ok=True)


def _stranger(path: Path) -> str | None:
    """What a file is, if it is not (the beginning of) what its name tells; it may be a part."""
    suffix = path.with_name(path.name.removesuffix('.part')).suffix
    with path.open('rb') as file:
        head = file.read(512)
        good = head.startswith((ZIP if suffix == '.npz' else HDF5)[: len(head)])
        if suffix == '.hdf5' and not good:  # hdf5 files may begin with a block of their user's
            good = any(_at(file, 512 << power) == HDF5 for power in range(12))
    return None if good else _kind(head)


def _kind(head: bytes) -> str:
    """What the first bytes of a file tell of it."""
    text = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<!doctype html', b'<html', b'<head')) or b'<html' in text:
        return 'an HTML page'
    if text.startswith(b'<?xml'):
        return 'an XML page'
    if text.startswith((b'{', b'[')):
        return 'JSON'
    if text.startswith(b'version https://git-lfs'):
        return 'a pointer of Git LFS'
    if head.startswith(b'\x1f\x8b'):
        return 'a gzip archive'
    return 'text' if head.isascii() else 'something else'


def _at(file: io.BufferedIOBase, place: int) -> bytes:
    """The eight bytes at a place of a file."""
    file.seek(place)
    return file.read(len(HDF5))


def _number(pattern: str, text: str | None) -> int | None:
    """The number in a header; None where the header is absent or of another form."""
    match = re.fullmatch(pattern, text or '')
    return int(match[1]) if match else None


def _words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(getattr(error, 'reason', None), socket.gaierror):
        return 'no network, or the address is unknown'
    return ' '.join(str(error).split())[:200] or type(error).__name__
