"""The task registry, and a task's environment.

A task (`task.Task`) says which data one trains on, which simulator goes with them, and what success
means. `published` has those of the benchmarks; `register` adds one's own.

Worker processes import this module, so it must stay light: no jax.
"""

import difflib
import re
from pathlib import Path

from dtql_jax.tasks.published import published
from dtql_jax.tasks.task import SOURCES, Task
from dtql_jax.types import UserError

FORMATS = {'.hdf5': 'd4rl', '.npz': 'ogbench'}  # suffix of a file -> source

TASKS: dict[str, Task] = {task.name: task for task in published()}


def register_task(task: Task) -> Task:
    """Add a task of your own under `task.name`; raises UserError if the name is taken.

    ```python
    register_task(Task('my-hopper', ('me/my-hopper-v0',), env_id='Hopper-v5', horizon=1000))
    register_task(dataclasses.replace(TASKS['pointmaze-umaze'], name='u', datasets=('me/u-v0',)))
    ```
    """
    if task.name in TASKS:
        raise UserError(f'there is a task {task.name!r} already: register yours under another name')
    TASKS[task.name] = task
    return task


def resolve(
    name: str, source: str | None = None, dataset_path: str | None = None
) -> tuple[Task, str | None]:
    """Task of a name, and one line to tell the user where the data are not what the name suggests.

    A registered name is that task; a D4RL name without its version the default of those that share
    it; `minari:<dataset id or folder>` own data. `source` asks for the same task from another
    source. Without it the format of `dataset_path` decides, where the name leaves it open. Raises
    UserError with the nearest names, or with the sources and versions that there are.
    """
    if source is not None and source not in SOURCES:
        raise UserError(f'`source`={source}: there are {", ".join(SOURCES)}')
    if name.startswith('minari:'):
        dataset = name.removeprefix('minari:')
        if not re.fullmatch(r'\S+', dataset) or source not in (None, 'minari'):
            raise UserError(f'{name!r} names no dataset: write minari:<dataset id>')
        return Task(name, (dataset,)), None
    asked = TASKS.get(name)
    same = [task for task in TASKS.values() if task.base == (asked.base if asked else name)]
    if not same:
        names = dict.fromkeys(known for task in TASKS.values() for known in (task.base, task.name))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise UserError(
            f'unknown task {name!r}; nearest: {", ".join(near or list(TASKS)[:3])} '
            '(--list has all; minari:<dataset id> takes your own)'
        )
    if source is None and dataset_path is not None and (asked is None or asked.base == name):
        # The name leaves open whose data they are, and a file tells.
        source = FORMATS.get(Path(dataset_path).suffix)
        source = source if source in {task.source for task in same} else None
    if source is None:
        source = (asked or same[0]).source
    if not (fitting := [task for task in same if task.source == source]):
        there = ', '.join(f'`source`={s}' for s in dict.fromkeys(task.source for task in same))
        raise UserError(f'{name} does not come from {source}: there is {there}')
    if asked in fitting:
        return asked, None
    if len(fitting) > 1:
        names = ' or '.join(f'`env`={task.name}' for task in fitting)
        raise UserError(f'{name}: D4RL has several versions; name one: {names}')
    (task,) = fitting
    if asked is None or source != 'minari':
        return task, None
    return task, (
        f'{name}: served by {" + ".join(task.datasets)} (from Minari, {task.env_id}), other data '
        "than D4RL's, so that scores do not compare with published D4RL scores"
    )
