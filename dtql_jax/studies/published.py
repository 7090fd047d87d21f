"""Published scores of the same data: `published.csv` and the rows of it that fit a task.

A number belongs to a task only where its source states the same edition of the data: D4RL's v0, v1
and v2, Minari's sets and OGBench's are different data. Rows that state no version are kept apart.
Several sources for one number stay several.
"""

import csv
import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name('published.csv')
METHODS = {
    'dtql': 'DTQL', 'diffusion_ql': 'Diffusion-QL', 'idql': 'IDQL', 'srpo': 'SRPO', 'iql': 'IQL',
    'fql': 'FQL', 'td3_bc': 'TD3+BC', 'rebrac': 'ReBRAC', 'bc': 'BC',
}  # fmt: skip
# The number of the task that OGBench takes where its name has none, by the begin of the name.
OGBENCH_DEFAULT = {
    'antsoccer': 4, 'cube': 2, 'scene': 2, 'puzzle-3x3': 4, 'puzzle-4x4': 4, 'puzzle': 2,
}  # fmt: skip
OGBENCH_WORDS = (
    'published with ogbench 1.1, which judges success after the action (success_timing=post); here '
)
TIMING_WORDS = {
    'pre': 'it is judged before the action, as since 1.2 (success_timing=pre)',
    'post': 'it is judged so too',
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published number: the columns of the file. An empty text is not stated by its source."""

    task: str
    dataset_version: str
    method: str
    mean: str
    spread: str
    spread_kind: str
    seeds: str
    episodes: str
    selection: str
    source: str
    quoted_by: str

    @property
    def value(self) -> str:
        """The mean with its spread."""
        return f'{self.mean} ± {self.spread}' if self.spread else self.mean

    @property
    def chosen(self) -> str:
        """How the evaluation was chosen, in a word: last, mean, best, offline; ? is not stated."""
        for word in ('last', 'best', 'offline', 'mean'):
            if self.selection.startswith(word):
                return word
        return '?'


@dataclasses.dataclass(frozen=True)
class Found:
    """The numbers for a task.

    Attributes:
        same: those of the same edition of the data.
        unstated: those of the same name whose source states no version, or about whose version
            sources disagree.
        words: what a reader must know about the edition; '' where nothing.
    """

    same: tuple[Published, ...]
    unstated: tuple[Published, ...]
    words: str


@functools.cache
def rows() -> tuple[Published, ...]:
    """All published numbers."""
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(Published(**row) for row in csv.DictReader(file))


def find(task: Mapping[str, Any], own_data: bool) -> Found:
    """The published numbers for a task.

    Args:
        task: the task as a run's `config.json` has it.
        own_data: whether the run took other data than the task's.
    """
    if own_data:
        return Found((), (), 'its data were given by path or as arrays: no published number fits')
    name, source = str(task['name']), task['source']
    if source == 'ogbench':
        numbered = _numbered(name)
        same = tuple(row for row in rows() if row.task == numbered)
        timing = TIMING_WORDS[task.get('success_timing') or 'pre']
        words = f'{OGBENCH_WORDS}{timing}{_alias(name, numbered)}'
        return Found(same, (), words if same else '')
    if source == 'minari':
        same = tuple(row for row in rows() if (row.task,) == tuple(task['datasets']))
        twin = any(row.task == name for row in rows())
        words = (
            f"its data are Minari's {', '.join(task['datasets'])}; scores published for D4RL's "
            f'{name} are of other data and are not shown'
        )
        return Found(same, (), words if twin else '')
    base, version = re.sub(r'-v\d+$', '', name), name.rpartition('-')[2]
    named = [row for row in rows() if row.task == base]
    same = tuple(row for row in named if row.dataset_version == version)
    doubtful = tuple(row for row in named if _doubtful(row.dataset_version, version))
    return Found(same, doubtful, '')


def _numbered(name: str) -> str:
    """The name of a single task of OGBench with its number."""
    if '-singletask-v' not in name:
        return name
    number = next((n for begin, n in OGBENCH_DEFAULT.items() if name.startswith(begin)), 1)
    return name.replace('-singletask-', f'-singletask-task{number}-')


def _alias(name: str, numbered: str) -> str:
    return '' if name == numbered else f'; its published name is {numbered}'


def _doubtful(stated: str, version: str) -> bool:
    """Whether a source may mean this version: it states none, or only others label it so."""
    if stated.startswith('not stated'):
        return True
    return stated != version and stated.startswith(f'{version} ')
