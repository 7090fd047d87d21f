"""Lists the tasks and the agents, with the origin of their data and settings.

  dtql list                        # every task and agent
  dtql list --env=hopper-medium    # a task: its data, simulator, evaluation and settings
  dtql list --agent=idql           # the settings of an agent, with their meaning and defaults

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from dtql_jax.cli.flags import columns, run_command, shown

if TYPE_CHECKING:
    from dtql_jax.tasks.task import Task

FLAGS = flags.FlagValues()
flags.DEFINE_string('env', None, 'the task to describe', FLAGS)
flags.DEFINE_string('agent', None, "the agent whose settings to list, or 'module:Class'", FLAGS)

TUNED = ('dtql', 'diffusion_ql')  # the agents whose settings' origin each task tells
FAMILIES = {
    'pointmaze': 'Point mazes',
    'antmaze': "Ant mazes in gymnasium-robotics (Minari's data)",
    'd4rl-antmaze': "Ant mazes as D4RL has them (D4RL's own files)",
    'mujoco': 'Locomotion',
    'adroit': 'Hands',
    'kitchen': 'Kitchen',
    'ogbench': "OGBench's single tasks; [-taskN]: 1 to 5, or none for OGBench's default",
    'toy': 'Toys: one state, an action in the plane, one step',
    'custom': 'Your own',
}
LEGEND = [
    (
        'source',
        "the origin of the data. A name without a version is Minari's set; D4RL's spelling with "
        "its version is D4RL's own file; OGBench's names are OGBench's. --source=minari, d4rl or "
        'ogbench asks for the same task from elsewhere, where it exists there. Only D4RL has '
        'medium-replay, and its name without a version means its file.',
    ),
    (
        'protocol',
        "episodes x steps of an evaluation, as DTQL's released code, D4RL and OGBench have them; "
        'pointmaze: ours.',
    ),
    (
        'score',
        "the returns that score 0 and 100 (D4RL's constants); success: the share of successes.",
    ),
    (
        'dtql, diffusion_ql',
        "the origin of their settings: 'released' code, 'ours' (reasoned, not tuned), or "
        "'defaults'. The other agents: docs/agents.md.",
    ),
]
OWN = (
    '--env=minari:<dataset id> and --env=files:<path> take your own data, '
    '--agent=my_module:MyAgent your own agent. '
    '`dtql list --env=TASK` names the data and the simulator of a task.'
)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the list; returns the exit code."""
    return run_command(show, FLAGS, __doc__ or '', argv)


def show(asked: flags.FlagValues) -> None:
    """Prints what the flags ask for."""
    parts = []
    if asked.env is not None:
        parts.append(task_text(asked.env))
    if asked.agent is not None:
        parts.append(settings_text(asked.agent))
    print('\n\n'.join(parts) or text())


def text() -> str:
    """All tasks and agents."""
    from dtql_jax.agents.registry import AGENTS
    from dtql_jax.report.tables import table
    from dtql_jax.tasks.registry import TASKS

    groups: dict[str, list[tuple[str, ...]]] = {}
    for task in TASKS.values():
        if '-singletask-task' not in task.name:
            groups.setdefault(task.family, []).append(_row(task))
    head = ('task', 'source', 'protocol', 'score', *TUNED)
    parts = [
        f'{FAMILIES.get(family, family)}\n{table([head, *rows])}' for family, rows in groups.items()
    ]
    agents = [(name, _first_line(found.agent)) for name, found in AGENTS.items()]
    legend = [*columns(LEGEND), *columns([(OWN,)])]
    return '\n\n'.join([*parts, '\n'.join(legend), '\n'.join(['Agents', *columns(agents)])])


def task_text(name: str) -> str:
    """All about a task, a line for each fact."""
    from dtql_jax.tasks.registry import resolve

    task, note = resolve(name)
    simulator = _simulator(task) or 'the one that the dataset records'
    origins = zip(_origins(task), TUNED, strict=True)
    rows = [
        ('task', task.name),
        ('source', task.source),
        ('data', ' + '.join(map(_data, task.datasets))),
        ('', 'collected on the spot where they are absent' if task.collect else ''),
        ('simulator', simulator if task.has_env else 'none'),
        ('protocol', f'{_protocol(task)} (episodes x steps)' if task.has_env else 'no evaluation'),
        ('score', _score(task)),
        ('goal', '' if task.goal == 'none' else task.goal),
        ('settings', ', '.join(f'{origin} for {agent}' for origin, agent in origins)),
        ('caveat', task.caveat),
        ('note', note or ''),
    ]
    return '\n'.join(columns([row for row in rows if row[1]]))


def settings_text(agent: str) -> str:
    """The settings of an agent, a line each."""
    from dtql_jax.agents.registry import find_agent
    from dtql_jax.agents.settings import kinds, limits, meaning

    config_class = find_agent(agent).agent.config_class
    rows = [('setting', 'default', 'lanes', 'meaning')]
    for field in dataclasses.fields(config_class):
        differ = 'may differ' if kinds(config_class)[field.name] is float else ''
        choices = limits(field).choices
        what = meaning(field) + (f': {", ".join(choices)}' if choices else '')
        rows.append((field.name, shown(field.default), differ, what))
    return '\n'.join(columns(rows))


def _row(task: 'Task') -> tuple[str, ...]:
    """The row of a task in its table; the tasks of one OGBench set share a row."""
    name = task.name.replace('singletask', 'singletask[-taskN]')
    name = name if task.source == 'ogbench' else task.name
    return name, task.source, _protocol(task), _score(task), *_origins(task)


def _protocol(task: 'Task') -> str:
    return f'{task.eval_episodes} x {task.horizon or "?"}'


def _score(task: 'Task') -> str:
    """The values that score 0 and 100."""
    if task.scored == 'success':
        return 'success'
    return '-' if task.score_range is None else '{:g}..{:g}'.format(*task.score_range)


def _simulator(task: 'Task') -> str:
    """The name of the environment, without our module."""
    return (task.env_id or '').removeprefix('dtql_jax.tasks.simulators:')


def _data(dataset: str) -> str:
    """A Minari id, or the name of the file at an address."""
    return re.sub(r'.*/', '', dataset) if '://' in dataset else dataset


def _origins(task: 'Task') -> tuple[str, ...]:
    """The origin of the settings of the `TUNED` agents for a task."""
    from dtql_jax.agents.registry import row_of
    from dtql_jax.agents.tables import OURS

    rows = [row_of(agent, task.rows) for agent in TUNED]
    return tuple(
        'defaults' if row is None else 'ours' if row.startswith(OURS) else 'released'
        for row in rows
    )


def _first_line(agent: type) -> str:
    """The first line of the module that defines an agent."""
    return (sys.modules[agent.__module__].__doc__ or '').strip().partition('\n')[0]
