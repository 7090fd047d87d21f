"""Strategies of hypothesis: valid files of data with a few things changed, and command lines.

A mutation is plain data, so that a failure can be stored and made again. `apply` functions take the
list of mutations and write the file.
"""

import contextlib
import json
import pathlib
import zipfile
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from tools.campaign import toys

DTYPES = (
    'f2', 'f4', 'f8', 'i1', 'u1', 'i2', 'i4', 'i8', 'u8', 'bool', 'c8', 'S3', 'U3', 'O', 'M8[s]',
)  # fmt: skip
SHAPES = (
    'flat',
    'deep',
    'transposed',
    'scalar',
    'no rows',
    'one row',
    'short',
    'long',
    'no columns',
)
NUMBERS = (
    float('nan'), float('inf'), float('-inf'), 1e39, -1e39, 1e308, 3.4e38, 1.7e9, 1e-45, 2.0, -2.0,
    0.0, 0.5, 2**53 + 1,
)  # fmt: skip
WORDS = ('', 'x', '-', 'é', '\u4e2d', 'a b', 'a/b', '..', 'observations', 'episode_0', '%s', '{}')
FIELDS = tuple(toys.arrays())
OPTIONAL = ('masks', 'infos/goal', 'metadata')
# Of hdf5 alone: what stands in the place of a dataset.
STANDINS = ('group', 'empty', 'soft link', 'external link', 'vlen', 'compound', 'chunked', 'huge')

field = st.sampled_from(FIELDS)
mutation = st.one_of(
    st.tuples(st.just('drop'), field),
    st.tuples(st.just('rename'), field, st.sampled_from((*WORDS[1:6], *OPTIONAL))),
    st.tuples(st.just('copy'), field, st.sampled_from((*FIELDS, *OPTIONAL))),
    st.tuples(st.just('type'), field, st.sampled_from(DTYPES)),
    st.tuples(st.just('shape'), field, st.sampled_from(SHAPES)),
    st.tuples(st.just('number'), field, st.sampled_from(NUMBERS), st.integers(0, 10**6)),
    st.tuples(st.just('fill'), field, st.sampled_from(NUMBERS)),
    st.tuples(st.just('instead'), field, st.sampled_from(STANDINS)),
)
on_bytes = st.one_of(
    st.tuples(st.just('flip'), st.integers(0, 2**20), st.integers(0, 7)),
    st.tuples(st.just('cut'), st.integers(0, 2**20)),
    st.tuples(st.just('insert'), st.integers(0, 2**20), st.binary(max_size=16).map(bytes.hex)),
    st.tuples(st.just('zero'), st.integers(0, 2**20), st.integers(1, 512)),
)
# Mostly a few changes of the fields; sometimes of the file's bytes.
changes = st.tuples(st.lists(mutation, max_size=4), st.lists(on_bytes, max_size=3))

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2**40), st.sampled_from(NUMBERS + WORDS)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=2)
    ),
    max_leaves=4,
)
# Of a Minari set: its metadata, its episodes (by the field of the first), and the file's bytes.
PARTS = ('observations', 'actions', 'rewards', 'terminations', 'truncations', 'infos')
minari_changes = st.tuples(
    st.lists(st.tuples(st.integers(0, 30), st.booleans(), anything), max_size=3),
    st.lists(
        st.tuples(
            st.integers(0, 25),
            st.sampled_from(PARTS),
            st.one_of(
                st.tuples(st.just('drop')),
                st.tuples(st.just('type'), st.sampled_from(DTYPES)),
                st.tuples(st.just('shape'), st.sampled_from(SHAPES)),
                st.tuples(st.just('fill'), st.sampled_from(NUMBERS)),
                st.tuples(st.just('instead'), st.sampled_from(STANDINS[:6])),
            ),
        ),
        max_size=3,
    ),
    st.lists(on_bytes, max_size=2),
)

VALUES = (
    '', '0', '1', '-1', '3e5', '1e400', '1e-400', 'nan', 'inf', '-inf', '0x10', '1_0', '٣',
    '9' * 400, 'true', 'False', 'none', 'None', '[]', '{}', '()', 'a=b', 'x' * 5000, '\0', '\n',
    '\udcff', '~', '~/x', '..', '.', '/', '/proc/x', 'run', 'run/config.json', 'data.hdf5',
    'data.npz', '*', 'a[1]', 'walk', 'minari:', 'minari:x', 'minari:a/b-v0', 'hopper-medium',
    'line.py:Line', ':', 'a:b', 'iql', 'minari', 'd4rl', 'ogbench', 'wandb', 'observe', 'best',
    'last', ',', 'a,b', 'x.gif', 'x.png', '%s',
)  # fmt: skip
COMMANDS = ('train', 'evaluate', 'plot', 'collect', 'list')
NO_COMMANDS = ('trian', '', '--help', '--version', '-x')


def command_line(names: dict[str, list[str]]) -> st.SearchStrategy[list[str]]:
    """Command lines with the flags of each command, `names`, and odd values."""

    def of(command: str) -> st.SearchStrategy[list[str]]:
        known = st.sampled_from([*names.get(command, ['env']), '', 'x', 'help', 'set', '-'])
        value = st.sampled_from(VALUES)
        word = st.one_of(
            st.builds('--{}={}'.format, known, value),
            st.builds('--{}={}'.format, known, value),
            st.builds('--{}'.format, known),
            st.builds('--no{}'.format, known),
            st.builds('--set={}={}'.format, known, value),
            value,
        )
        return st.lists(word, max_size=5).map(lambda words: [command, *words])

    return st.sampled_from(COMMANDS * 4 + NO_COMMANDS).flatmap(of)


def reshaped(array: np.ndarray, how: str) -> np.ndarray:
    """The array in another shape."""
    return {
        'flat': lambda: array.reshape(-1),
        'deep': lambda: array[..., None],
        'transposed': lambda: array.T,
        'scalar': lambda: array.reshape(-1)[0],
        'no rows': lambda: array[:0],
        'one row': lambda: array[:1],
        'short': lambda: array[:-1],
        'long': lambda: np.concatenate([array, array]),
        'no columns': lambda: array.reshape(len(array), -1)[:, :0],
    }[how]()


def mutated(array: np.ndarray, how: str, *values: Any) -> np.ndarray:
    """The array of another type or shape, or with other numbers."""
    with np.errstate(all='ignore'):
        if how == 'type':
            kind = 'f8' if values[0] == 'M8[s]' and array.dtype.kind == 'b' else array.dtype
            return array.astype(kind).astype(values[0])
        if how == 'shape':
            return reshaped(array, values[0])
        wide = array.astype(np.float64)
        if how == 'number' and wide.size:
            wide.reshape(-1)[values[1] % wide.size] = values[0]
        elif how == 'fill':
            wide[...] = values[0]
        return wide


def fields_of(changes: list, fields: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields after the changes; a text in the place of an array is one of `STANDINS`."""
    fields = dict(fields)
    for how, name, *values in changes:
        if name not in fields:
            continue
        if how == 'drop':
            del fields[name]
        elif how in ('rename', 'copy'):
            fields[values[0]] = fields.pop(name) if how == 'rename' else fields[name]
        elif how == 'instead':
            fields[name] = values[0]
        elif not isinstance(fields[name], str):
            # After an earlier change numpy may not be able to.
            with contextlib.suppress(ValueError, TypeError, IndexError):
                fields[name] = mutated(np.asarray(fields[name]), how, *values)
    return fields


def write_npz(path: pathlib.Path, fields: dict[str, Any]) -> None:
    """Writes an npz file; a text becomes a member that is no array."""
    plain = {name: value for name, value in fields.items() if not isinstance(value, str)}
    np.savez(path, **plain)
    with zipfile.ZipFile(path, 'a') as archive:
        for name in fields.keys() - plain.keys():
            archive.writestr(f'{name}.npy', fields[name] * 7)


def write_hdf5(group: h5py.Group, fields: dict[str, Any]) -> None:
    """Writes datasets, and what stands in the place of some."""
    for name, value in fields.items():
        if not isinstance(value, str):
            array = np.asarray(value)
            if array.dtype.kind in 'UM':
                array = array.astype('S')
            text = h5py.string_dtype()
            objects = array.dtype.kind == 'O'
            array = np.vectorize(str, otypes=[object])(array) if objects else array
            group.create_dataset(name, data=array, dtype=text if objects else None)
        elif value == 'group':
            group.create_group(name)['x'] = 1
        elif value == 'empty':
            group[name] = h5py.Empty('f4')
        elif value == 'soft link':
            group[name] = h5py.SoftLink('/nowhere')
        elif value == 'external link':
            group[name] = h5py.ExternalLink('nowhere.hdf5', '/x')
        elif value == 'vlen':
            group.create_dataset(name, (200,), h5py.vlen_dtype('f4'))
        elif value == 'compound':
            group.create_dataset(name, (200,), [('a', 'f4'), ('b', 'i2')])
        elif value == 'chunked':
            group.create_dataset(name, (200,), 'f4', chunks=(7,), maxshape=(None,), compression=4)
        else:
            group.create_dataset(name, (2**40, 2), 'f4', chunks=(1024, 2))


def edit_bytes(path: pathlib.Path, edits: list) -> None:
    """Changes the bytes of a file."""
    data = bytearray(path.read_bytes())
    for how, place, *values in edits:
        at = place % (len(data) + 1)
        if how == 'flip' and at < len(data):
            data[at] ^= 1 << values[0]
        elif how == 'cut':
            del data[at:]
        elif how == 'insert':
            data[at:at] = bytes.fromhex(values[0])
        elif how == 'zero':
            data[at : at + values[0]] = bytes(len(data[at : at + values[0]]))
    path.write_bytes(data)


def edit_json(path: pathlib.Path, edits: list) -> None:
    """Changes fields of a JSON file, or removes them."""
    content = json.loads(path.read_text())
    for place, remove, value in edits:
        if not content:
            break
        name = sorted(content)[place % len(content)]
        if remove:
            del content[name]
        else:
            content[name] = value
    path.write_text(json.dumps(content))
