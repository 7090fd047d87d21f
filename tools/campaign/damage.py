"""Damage to files: each function changes a copy of a run folder, and says how.

A function draws from `rng` alone, so a fault is repeated by its number. It returns None where the
folder has nothing that it could damage.
"""

import json
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any

Rng = random.Random


# One file.


def flip(rng: Rng, path: pathlib.Path) -> str:
    """Turns one bit over."""
    data = bytearray(path.read_bytes() or b'\0')
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f'a bit of byte {at} of {len(data)}'


def truncate(rng: Rng, path: pathlib.Path) -> str:
    """Cuts it short."""
    data = path.read_bytes()
    size = rng.randrange(max(1, len(data)))
    path.write_bytes(data[:size])
    return f'cut from {len(data)} to {size} bytes'


def empty(rng: Rng, path: pathlib.Path) -> str:
    """Leaves nothing in it."""
    path.write_bytes(b'')
    return 'emptied'


def garbage(rng: Rng, path: pathlib.Path) -> str:
    """Overwrites it."""
    path.write_bytes(rng.randbytes(max(1, path.stat().st_size)))
    return 'garbage'


def zeros(rng: Rng, path: pathlib.Path) -> str:
    """Overwrites its end with zeros, as a file system does after a loss of power."""
    data = path.read_bytes()
    size = rng.randrange(max(1, len(data)))
    path.write_bytes(data[:size] + bytes(len(data) - size))
    return f'zeros from byte {size} of {len(data)}'


def append(rng: Rng, path: pathlib.Path) -> str:
    """Adds garbage."""
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 64)))
    return 'garbage added'


def delete(rng: Rng, path: pathlib.Path) -> str:
    """Removes it."""
    path.unlink()
    return 'deleted'


def folder(rng: Rng, path: pathlib.Path) -> str:
    """Puts a folder in its place."""
    path.unlink()
    path.mkdir()
    return 'a folder in its place'


FILE = (flip, flip, truncate, truncate, empty, garbage, zeros, append, delete, folder)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder, in order."""
    return sorted(path for path in folder.rglob('*') if path.is_file())


def one_of(rng: Rng, paths: list[pathlib.Path], root: pathlib.Path) -> str:
    """Damages one file."""
    path, how = rng.choice(paths), rng.choice(FILE)
    return f'{path.relative_to(root)}: {how(rng, path)}'


# Checkpoints.


def checkpoints(run: pathlib.Path) -> list[pathlib.Path]:
    """The folders of checkpoints, the newest first."""
    found = [path for path in (run / 'checkpoints').iterdir() if path.name.isdigit()]
    return sorted(found, key=lambda path: -int(path.name))


def newest(rng: Rng, run: pathlib.Path) -> str:
    """One file of the newest checkpoint."""
    return one_of(rng, files(checkpoints(run)[0]), run)


def older(rng: Rng, run: pathlib.Path) -> str:
    """One file of the checkpoint before."""
    return one_of(rng, files(checkpoints(run)[-1]), run)


def both(rng: Rng, run: pathlib.Path) -> str:
    """One file of each checkpoint."""
    return '; '.join(one_of(rng, files(found), run) for found in checkpoints(run))


def swapped(rng: Rng, run: pathlib.Path) -> str:
    """Two files of the newest checkpoint, or the same file of both checkpoints, swapped."""
    new, old = (files(found) for found in checkpoints(run)[:2])
    one = rng.choice(new)
    twin = checkpoints(run)[1] / one.relative_to(checkpoints(run)[0])
    other = twin if twin in old and rng.random() < 0.5 else rng.choice(new)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f'{one.relative_to(run)} and {other.relative_to(run)} swapped'


def mixed(rng: Rng, run: pathlib.Path) -> str:
    """A part of the newest checkpoint comes from the one before."""
    new, old = checkpoints(run)[:2]
    part = rng.choice([path for path in sorted(new.iterdir()) if path.is_dir()])
    shutil.rmtree(part)
    shutil.copytree(old / part.name, part)
    return f'{part.relative_to(run)} from checkpoint {old.name}'


def renamed(rng: Rng, run: pathlib.Path) -> str:
    """Checkpoints change their numbers."""
    new, old = checkpoints(run)[:2]
    if rng.random() < 0.5:
        aside = new.with_name('aside')
        new.rename(aside)
        old.rename(new)
        aside.rename(old)
        return f'checkpoints {new.name} and {old.name} swapped'
    target = new.with_name(str(int(new.name) + rng.randint(1, 9)))
    old.rename(target)
    return f'checkpoint {old.name} renamed to {target.name}'


def folders(rng: Rng, run: pathlib.Path) -> str:
    """Whole folders of checkpoints go, or strange ones come."""
    new, all_of_them = checkpoints(run)[0], run / 'checkpoints'
    kind = rng.randrange(5)
    if kind == 0:
        shutil.rmtree(new)
        return f'checkpoint {new.name} deleted'
    if kind == 1:
        shutil.rmtree(all_of_them)
        return 'checkpoints/ deleted'
    if kind == 2:
        shutil.rmtree(all_of_them)
        all_of_them.mkdir()
        return 'checkpoints/ emptied'
    strange = new.with_name(str(int(new.name) + 1) if kind == 3 else f'{new.name}.tmp-1')
    strange.mkdir()
    return f'an empty folder {strange.relative_to(run)}'


# The settings.


def leaves(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values of nested dicts and lists."""
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [found for key, value in items for found in leaves(value, (*path, key))]
    return [path]


def changed(rng: Rng, value: Any) -> Any:
    """Another value, often of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and rng.random() < 0.7:
        return value + rng.choice([1, -1, 0.5]) if value else 1
    if isinstance(value, str) and rng.random() < 0.7:
        return value[:-1] + ('x' if value[-1:] != 'x' else 'y')
    return rng.choice([None, 'x', 17, -1.5, [], {}, [1, 2], {'a': 1}])


def field(rng: Rng, run: pathlib.Path) -> str:
    """A field of config.json gets another value, or goes."""
    path = run / 'config.json'
    config = json.loads(path.read_text())
    # The versions and devices tell where a run was made, and decide nothing.
    where = rng.choice([w for w in leaves(config) if w[0] not in ('versions', 'devices')])
    where = where[: rng.randint(1, len(where))] if rng.random() < 0.2 else where
    holder = config
    for key in where[:-1]:
        holder = holder[key]
    name = '.'.join(map(str, where))
    if rng.random() < 0.25:
        before = holder.pop(where[-1])
        told = f'{name} removed'
    else:
        before = holder[where[-1]]
        holder[where[-1]] = changed(rng, before)
        told = f'{name}: {str(before)[:30]!r} -> {holder[where[-1]]!r}'
    path.write_text(json.dumps(config, indent=2) + '\n')
    return f'config.json: {told}'


def config(rng: Rng, run: pathlib.Path) -> str:
    """config.json is damaged as a file, or is valid JSON of another kind."""
    path = run / 'config.json'
    texts = ('{}', '[]', 'null', '{"format": 2}', '"x"', '17', '{"format": 2, "request": {}}')
    if rng.random() < 0.4:
        text = rng.choice(texts)
        path.write_text(text)
        return f'config.json: {text}'
    return one_of(rng, [path], run)


# The logs.


def log(rng: Rng, run: pathlib.Path) -> str:
    """A log is damaged as a file."""
    return one_of(rng, [run / f'{name}.jsonl' for name in ('metrics', 'eval')], run)


def row(rng: Rng, run: pathlib.Path) -> str:
    """A row of a log is changed, lost, doubled, moved, cut or garbled."""
    path = run / f'{rng.choice(["metrics", "eval"])}.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.choice(['digit', 'digit', 'lost', 'double', 'moved', 'cut', 'line', 'within'])
    if kind == 'digit':
        where = [i for i, byte in enumerate(lines[at]) if chr(byte).isdigit()]
        i = rng.choice(where)
        other = rng.choice([d for d in b'123456789' if d != lines[at][i]])
        lines[at] = lines[at][:i] + bytes([other]) + lines[at][i + 1 :]
    elif kind == 'lost':
        del lines[at]
    elif kind == 'double':
        lines.insert(at, lines[at])
    elif kind == 'moved':
        lines.append(lines.pop(0))
    elif kind == 'cut':
        lines[at:] = [lines[at][: len(lines[at]) // 2]]
    elif kind == 'within':
        lines[at] = lines[at][: len(lines[at]) // 2] + b'\n'
    else:
        lines.insert(at, b'not a row\n')
    path.write_bytes(b''.join(lines))
    return f'{path.name}, row {at} of {len(lines)}: {kind}'


def logs(rng: Rng, run: pathlib.Path) -> str:
    """The two logs change places."""
    one, other = run / 'metrics.jsonl', run / 'eval.jsonl'
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return 'metrics.jsonl and eval.jsonl swapped'


def other(rng: Rng, run: pathlib.Path) -> str | None:
    """Any other file of the folder."""
    known = {'config.json', 'metrics.jsonl', 'eval.jsonl'}
    found = [p for p in files(run) if p.name not in known and 'checkpoints' not in p.parts]
    return one_of(rng, found, run) if found else None


Fault = Callable[[Rng, pathlib.Path], str | None]
# Drawn by these weights: half of them in checkpoints.
FAULTS: dict[Fault, int] = {
    newest: 10, both: 8, older: 2, swapped: 3, mixed: 2, renamed: 2, folders: 3,
    field: 9, config: 5, log: 5, row: 8, logs: 1, other: 2,
}  # fmt: skip
# What an evaluation reads.
READ = (newest, both, older, swapped, mixed, renamed, folders, field, config)
