"""Why a file of data cannot be read: locked, forbidden, of another version, damaged, ...

Only what is known to be damaged is called so. Most healthy files that cannot be read wait for
another process, a permission or a package.
"""

import contextlib
import errno
from collections.abc import Iterator

from dtql_jax.types import Stopped, UserError

AGAIN = 'fetch or write it again'
FOLDERS = 'the right to read it and to enter its folders'

# What a message holds -> the reason and the cure. HDF5 and zip say these things only in words.
WORDS = {
    'already open for write': (
        'a process that writes it has not closed it',
        'wait for that process to end; if it is dead, run: h5clear -s on the file',
    ),
    'consistency flags': (
        'a process that wrote it has not closed it',
        'wait for that process to end; if it is dead, run: h5clear -s on the file',
    ),
    'unable to lock file': (
        'its file system knows no locks',
        'export HDF5_USE_FILE_LOCKING=FALSE',
    ),
    'superblock version': (
        'it was written in a newer version of HDF5',
        'pip install -U h5py (or fetch it again, if that does not help)',
    ),
    'required filter': (
        'it is compressed by a filter of HDF5 that is not installed',
        'pip install hdf5plugin, and export HDF5_PLUGIN_PATH to the folder hdf5plugin.PLUGIN_PATH',
    ),
    'compression method is not supported': (
        'it is compressed by a method that zipfile does not know',
        'write it again with numpy.savez',
    ),
    'password required': ('it is encrypted', 'write it again without a password'),
    'allow_pickle': (
        'it holds pickled Python objects, which are never loaded',
        'write it again as arrays of numbers',
    ),
}
WORDS['/plugin'] = WORDS["can't open directory"] = WORDS['required filter']

NUMBERS = {
    errno.EACCES: ('this user may not read it', f'ask for {FOLDERS}'),
    errno.EPERM: ('this user may not read it', f'ask for {FOLDERS}'),
    errno.EAGAIN: (
        'another process holds it open and writes it',
        'wait for that process to end',
    ),
    errno.ENOENT: ('there is no such file', 'look for its parts where it came from'),
    errno.EISDIR: ('it is a folder', 'give the file'),
}


@contextlib.contextmanager
def explained(path: str, damaged: str = AGAIN) -> Iterator[None]:
    """Turns what is raised while a file of data is read into one line: the reason and the cure.

    Args:
        path: names the file.
        damaged: the cure where its content is damaged.

    Raises:
        UserError: anything was raised inside but UserError, Stopped and MemoryError, which pass.
    """
    try:
        yield
    except (UserError, Stopped, MemoryError):
        raise
    except Exception as error:
        reason, cure = _reason(error, damaged)
        text = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'{path}: cannot be read, {reason} ({text}); {cure}') from error


def _reason(error: Exception, damaged: str) -> tuple[str, str]:
    """What is wrong, and what helps."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in NUMBERS:
        return NUMBERS[number]
    for words, answer in WORDS.items():
        if words in text:
            return answer
    if isinstance(error, ImportError) or 'Compression requires' in text:
        missing = getattr(error, 'name', None)
        cure = f'install the package that has {missing}' if missing else 'install the package'
        return 'a package is missing', text.partition('using ')[2].strip('`') or cure
    if number is not None:
        return 'the system cannot read it', 'try again, or copy the file to another disk'
    return 'the file is truncated or of another kind', damaged
