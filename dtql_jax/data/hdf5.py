"""Arrays of hdf5 files: whether the file holds what they promise.

HDF5 itself gives zeros for numbers that were never written, and asks for any amount of memory where
a bit of a shape is flipped.
"""

import math

import h5py
import numpy as np


def values(stored: h5py.Dataset) -> np.ndarray:
    """The values of an array. Those of one of objects are not read.

    No column holds objects, so their type is refused next. Reading them may take for ever where a
    flipped bit has made them of numbers.
    """
    return np.empty(stored.shape, object) if stored.dtype.hasobject else np.asarray(stored[()])


def incomplete(stored: h5py.Dataset, *, whole: bool = True) -> str | None:
    """What an array lacks, in words that follow its name; None if nothing.

    Args:
        stored: an array whose numbers lie in its own file; others lack nothing here.
        whole: whether numbers that were never written are missed. Else they are zeros by intent.
    """
    numbers = math.prod(stored.shape or ())
    if stored.is_virtual or stored.external or not numbers:
        return None
    size, file = numbers * stored.dtype.itemsize, stored.file.id.get_filesize()
    held = stored.id.get_storage_size()
    if held and size > file and not stored.id.get_create_plist().get_nfilters():
        return f'promises {size:,} bytes, and the file has {file:,}'
    written, promised = int(held > 0), 1
    if stored.chunks:
        pairs = zip(stored.shape, stored.chunks, strict=True)
        promised = math.prod(-(-rows // chunk) for rows, chunk in pairs)
        written = stored.id.get_num_chunks()
    if whole and written < promised:
        return f'was never written to its end ({written:,} of {promised:,} parts)'
    return None
