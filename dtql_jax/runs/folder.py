"""The folder of a run: it is made once, never over another, and read back.

`config_file` says what its `config.json` holds. Each checkpoint repeats that, so that an edit which
also mends the seal is noticed too. A resume that was asked for more adds `extended`, see `extend`.
"""

import functools
import json
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from dtql_jax.agents.registry import AGENTS, find_agent, register_agent
from dtql_jax.rollout.worker import importing_script
from dtql_jax.runs.config_file import CONFIG, CURE, parse_config, seal
from dtql_jax.runs.plan import Request, by_name, label, make_request
from dtql_jax.tasks.task import Task, recorded_fields
from dtql_jax.training import checkpoint
from dtql_jax.training.progress import CHECKPOINTS
from dtql_jax.types import UserError, outside

PACKAGES = (
    'dtql_jax', 'jax', 'flax', 'optax', 'orbax-checkpoint',
    'minari', 'gymnasium', 'mujoco', 'numpy',
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a run's numbers."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {'python': platform.python_version(), **packages}


@functools.cache
def commit() -> str | None:
    """The commit of this package's code, for example `1b59a68... with changes`; None if unknown.

    A package that was installed from a repository records its commit. Otherwise git tells that of
    the checkout, if the package's files belong to one.
    """
    url = metadata.distribution('dtql_jax').read_text('direct_url.json')
    if url and (installed := json.loads(url).get('vcs_info', {}).get('commit_id')):
        return installed
    # A package inside somebody else's checkout, as in its `.venv`, is none of its files.
    here, name = os.path.split(__file__)
    commands = ('cat-file', '-e', f'HEAD:./{name}'), ('rev-parse', 'HEAD'), ('diff', 'HEAD', '.')
    try:
        _, head, diff = (
            subprocess.run(
                ['git', '-C', here, *command], capture_output=True, check=True, timeout=10
            ).stdout
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.decode().strip() + (' with changes' if diff else '')


def read_run(run_dir: pathlib.Path) -> dict[str, Any]:
    """The content of the `config.json` of a run folder, as it was written.

    Raises:
        UserError: there is none, it was edited, or another version of this package wrote it.
    """
    path = run_dir / CONFIG
    description, whole = parse_config(run_dir)
    saved = checkpoint.read_meta(run_dir / CHECKPOINTS)
    later = whole and saved is not None and _is_later(description, saved['config'])
    if saved is not None and not later and (edits := _edits(description, saved['config'])):
        raise UserError(f'{path} was edited: {edits}; put back what the run has')
    if not whole:
        raise UserError(f'{path} was edited or is damaged: {CURE}')
    return description


def _is_later(found: Mapping[str, Any], wrote: Mapping[str, Any]) -> bool:
    """Whether a run was extended since a checkpoint `wrote` what its `config.json` was."""
    before = seal(wrote)
    return any(entry['sha256'] == before for entry in found.get('extended', []))


def _edits(found: Mapping[str, Any], wrote: Mapping[str, Any], most: int = 3) -> str:
    """The first fields that differ, with both values; '' where none does."""
    ours, theirs = dict(_flat(found)), dict(_flat(wrote))
    texts = [
        f'{name} is {_shown(ours, name)}, and the run has {_shown(theirs, name)}'
        for name in sorted(ours.keys() | theirs.keys())
        if _shown(ours, name) != _shown(theirs, name)
    ]
    more = [f'{len(texts) - most} more'] if len(texts) > most else []
    return '; '.join(texts[:most] + more)


def _shown(fields: Mapping[str, Any], name: str) -> str:
    """A value as the file has it; a missing one is told from a null."""
    return json.dumps(fields[name], sort_keys=True) if name in fields else 'missing'


def request_of_run(recorded: Mapping[str, Any], asked: Request | Mapping[str, Any]) -> Request:
    """The request that continues a run: what is `asked` for now, and the run's own for the rest."""
    then, now = by_name(recorded['request']), by_name(asked)
    if label(now.get('agent', then['agent'])) == label(then['agent']):
        # All settings of the agent: a table may have changed or be unknown here.
        then.update(recorded['identity']['config'])
    return make_request({**then, **now})


def restore_agent(recorded: Mapping[str, Any]) -> None:
    """Registers the agent of a run under its name, unless this process has it already.

    It is imported from the file that defined it, so that the script that registered it need not
    run again.

    Raises:
        UserError: the file or the class does not exist, or importing the file trains.
    """
    name, file = recorded['request']['agent'], recorded['agent_file']
    if name in AGENTS:
        return
    if ':' not in name and file is None:
        raise UserError(
            f'the agent {name!r} was not defined in a file: call register_agent({name!r}, ...) '
            'before the run is read'
        )
    _importing.append(file)
    try:
        # Its file comes before a module of that name, which may be another one in this folder.
        if '.' in name.partition(':')[0] or not (file and pathlib.Path(file).is_file()):
            find_agent(name, file)
        else:
            found = find_agent(f'{file}:{recorded["agent_class"]}')
            if name not in AGENTS:  # the import may have registered it
                register_agent(name, found.agent, found.table)
    finally:
        _importing.pop()


def check_settings(recorded: Mapping[str, Any]) -> None:
    """Raises UserError where a run has a setting that its agent lacks by now."""
    name = recorded['request']['agent']
    known = find_agent(name).agent.config_class.__dataclass_fields__
    if gone := ', '.join(sorted(set(recorded['identity']['config']) - set(known))):
        made = f' (commit {recorded["commit"]})' if recorded.get('commit') else ''
        raise UserError(
            f'the run has the setting {gone}, which {name} lacks by now: use the version that made '
            f'the run{made}'
        )


_importing: list[str | None] = []  # files of agents that are being imported


def check_not_importing() -> None:
    """Raises UserError within `restore_agent`: reading a run must not train another one.

    A worker process that imports the user's script must not train either. It ends; the process that
    started it says why.
    """
    if importing_script():
        raise SystemExit(1)
    if _importing:
        raise UserError(
            f'{_importing[-1]} defines the agent and trains when it is imported: put what it does '
            "under `if __name__ == '__main__':`"
        )


def task_of_run(description: Mapping[str, Any]) -> Task:
    """The task of a run, with the settings of its maze, from its `config.json`."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recorded_fields(description['identity']['task']).items()
    }
    if path := description['request']['dataset_path']:
        fields |= {'datasets': (path,), 'source': 'given'}
    return Task(**fields)


def check_new(run_dir: pathlib.Path) -> None:
    """Raises UserError where a run folder exists already or cannot be made."""
    cure = 'choose another folder with `out`'
    with outside(f'{run_dir} cannot be made', cure):
        exists = run_dir.exists()
        above = next(parent for parent in run_dir.absolute().parents if parent.exists())
    if exists:
        raise UserError(
            f'{run_dir} exists and is never overwritten: add `resume` to continue it, or {cure}'
        )
    # Really: what the system says of permissions need not be what it does.
    with (
        outside(f'{run_dir} cannot be made in {above}', cure),
        tempfile.TemporaryDirectory(dir=above),
    ):
        pass


def create_run(run_dir: pathlib.Path, description: Mapping[str, Any]) -> None:
    """Makes the run folder with its `config.json`, both or neither, and never over another.

    Raises:
        UserError: the folder exists or cannot be made.
    """
    check_new(run_dir)
    make_folder(run_dir, {CONFIG: _sealed(description).encode()})


def make_folder(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with these files, all or none.

    Raises:
        UserError: it cannot be made.
    """
    new = folder.parent / f'.{folder.name}.{os.getpid()}'
    try:
        with outside(f'{folder} cannot be made', 'choose another folder with `out`'):
            new.mkdir(parents=True)
            for name, content in files.items():
                (new / name).write_bytes(content)
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # of a full disk


def write_config(run_dir: pathlib.Path, description: Mapping[str, Any]) -> None:
    """Replaces a run's `config.json` at one moment, before which the old one is whole.

    Raises:
        UserError: it cannot be written.
    """
    new = run_dir / f'.{CONFIG}.new'
    cure = 'make room or give permission, and repeat the command'
    with outside(f'{run_dir / CONFIG} cannot be written', cure):
        with new.open('w') as file:
            file.write(_sealed(description))
            file.flush()
            os.fsync(file.fileno())
        new.replace(run_dir / CONFIG)


def _sealed(description: Mapping[str, Any]) -> str:
    """The text of a `config.json`."""
    content = json.loads(json.dumps(description))  # tuples become lists, as in a file
    return json.dumps({**content, 'sha256': seal(content)}, indent=2) + '\n'


def check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], run_dir: pathlib.Path) -> None:
    """Raises UserError where `ours`, asked for now, differs from `theirs`, which the run has.

    The text names each field that differs, with both values.
    """
    asked, recorded = dict(_flat(ours)), dict(_flat(theirs))
    different = [
        f'{name}: the run has {recorded.get(name)!r}, asked for {asked.get(name)!r}'
        for name in sorted(asked.keys() | recorded.keys())
        if asked.get(name) != recorded.get(name)
    ]
    if different:
        raise UserError(
            f'{run_dir} cannot be resumed with these settings: {"; ".join(different)}. '
            'Leave out what differs, or start a new run in another folder with `out`'
        )


def _flat(fields: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, named like `config.alpha`."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value
