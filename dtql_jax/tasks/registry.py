"""The registry of tasks: the published ones, the toys, and those that users register.

A `Task` names the data that an agent learns from, the simulator that goes with them, and what
counts as success.

Worker processes import this module, so it imports no jax.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

from dtql_jax.tasks.minari_sets import own_folder
from dtql_jax.tasks.own_files import SUFFIXES, is_own
from dtql_jax.tasks.published import published
from dtql_jax.tasks.task import SOURCES, Task
from dtql_jax.tasks.toys import toys
from dtql_jax.types import UserError, user_path

FORMATS = {'.hdf5': 'd4rl', '.npz': 'ogbench'}  # suffix of a file -> source

OWN = 'minari:'  # begins the name of a task of the user's own data
FILES = 'files:'  # and of one of files that record no environment

TASKS: dict[str, Task] = {task.name: task for task in (*published(), *toys())}


def register_task(task: Task) -> Task:
    """Registers a task of your own under `task.name`.

    ```python
    register_task(Task('my-hopper', ('me/my-hopper-v0',), env_id='Hopper-v5', horizon=1000))
    register_task(dataclasses.replace(TASKS['pointmaze-umaze'], name='u', datasets=('me/u-v0',)))
    ```

    Args:
        task: the task. Its `datasets` may be empty where `run` is given arrays.

    Returns:
        `task`.

    Raises:
        UserError: the name is taken.
    """
    if task.name in TASKS:
        raise UserError(f'there is a task {task.name!r} already: register yours under another name')
    TASKS[task.name] = task
    return task


def resolve(
    name: str, source: str | None = None, dataset_path: str | None = None
) -> tuple[Task, str | None]:
    """Finds the task of a name.

    Args:
        name: a registered name; a D4RL name without its version, which resolves to its default
            version; or `minari:<dataset id or folder>` or `files:<file or folder>` for data of your
            own.
        source: the source that the data must come from; one of `task.SOURCES`.
        dataset_path: a file of data. Its format decides the source where `name` and `source` do
            not.

    Returns:
        The task, and a note for the user where its data are not those that the name suggests.

    Raises:
        UserError: the name or the source is unknown, or several versions fit.
    """
    if source is not None and source not in SOURCES:
        raise UserError(f'`source`={source}: there are {", ".join(SOURCES)}')
    if name.startswith((OWN, FILES)):
        return _own_data(absolute(name), source), None
    registered = TASKS.get(name)
    same = [t for t in TASKS.values() if t.base == (registered.base if registered else name)]
    if not same:
        raise _unknown(name)
    if source is None:
        source = _default_source(name, registered, same, dataset_path)
    fitting = [task for task in same if task.source == source]
    if registered is not None and registered in fitting:
        return registered, None
    task = _only(fitting, name, source, same)
    return task, _note(name, task) if registered and source == 'minari' else None


def absolute(name: str) -> str:
    """The name of a task, with the whole path where it is `minari:` and a folder, or `files:`.

    So it means the same in another working directory.

    Raises:
        UserError: it names nothing, or the folder cannot be looked at, or has an unknown home.
    """
    if name.startswith(FILES):
        return FILES + str(user_path('env', name.removeprefix(FILES)).absolute())
    return OWN + own_folder(name.removeprefix(OWN)) if name.startswith(OWN) else name


def _own_data(name: str, source: str | None) -> Task:
    """The task of `minari:<dataset id or folder>` or `files:<file or folder>`."""
    prefix = OWN if name.startswith(OWN) else FILES
    if source not in (None, 'minari') or (source and prefix == FILES):
        raise UserError(f'{name!r} names no dataset of {source}: leave out `source`')
    task = Task(name, (name.removeprefix(prefix),), source=prefix.removesuffix(':'))
    if prefix == FILES and not (is_own(task.datasets[0]) and Path(task.datasets[0]).exists()):
        raise UserError(
            f'{name!r}: there is no such file or folder: name one that is there, which ends in '
            f'{", ".join(SUFFIXES)} or has such files'
        )
    return task


def _unknown(name: str) -> UserError:
    """The error for a name that no task has, with the nearest names."""
    names = dict.fromkeys(known for task in TASKS.values() for known in (task.base, task.name))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return UserError(
        f'unknown task {name!r}; nearest: {", ".join(near or list(TASKS)[:3])} '
        '(dtql list shows all; minari:<dataset id> and files:<path> take your own)'
    )


def _default_source(
    name: str, registered: Task | None, same: Sequence[Task], dataset_path: str | None
) -> str:
    """The source where the user names none: the file's if the name has no version."""
    if dataset_path is not None and (registered is None or registered.base == name):
        by_format = FORMATS.get(Path(dataset_path).suffix)
        if by_format is not None and by_format in {task.source for task in same}:
            return by_format
    return (registered or same[0]).source


def _only(fitting: Sequence[Task], name: str, source: str, same: Sequence[Task]) -> Task:
    """The one task of `fitting`; raises UserError where there is none, or more than one."""
    if not fitting:
        sources = ', '.join(f'`source`={s}' for s in dict.fromkeys(task.source for task in same))
        raise UserError(f'{name} does not come from {source}: there is {sources}')
    if len(fitting) > 1:
        names = ' or '.join(f'`env`={task.name}' for task in fitting)
        raise UserError(f'{name}: D4RL has several versions; name one: {names}')
    return fitting[0]


def _note(name: str, task: Task) -> str:
    """The note for a D4RL name that Minari's data serve."""
    return (
        f'{name}: served by {" + ".join(task.datasets)} (from Minari, {task.env_id}), other data '
        "than D4RL's, so that scores do not compare with published D4RL scores"
    )
