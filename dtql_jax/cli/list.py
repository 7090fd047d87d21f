"""Lists the tasks and agents, and where their data and settings come from.

dtql list                # every task and agent
dtql list --agent=idql   # the settings of an agent, with their meaning and defaults
"""

import dataclasses
import re
import sys
from collections.abc import Sequence

from absl import flags

from dtql_jax.agents.registry import AGENTS, find_agent, row_of
from dtql_jax.agents.settings import kinds, limits, meaning
from dtql_jax.agents.tables import OURS
from dtql_jax.cli.flags import run_command
from dtql_jax.report.tables import table
from dtql_jax.tasks import registry as tasks
from dtql_jax.tasks.task import Task

FLAGS = flags.FlagValues()
flags.DEFINE_string('agent', None, 'the agent whose settings are listed', FLAGS)

TUNED = ('dtql', 'diffusion_ql')  # whose settings' origin is told for each task
FAMILIES = {
    'pointmaze': 'Point mazes',
    'antmaze': "Ant mazes in gymnasium-robotics (Minari's data)",
    'd4rl-antmaze': "Ant mazes as D4RL has them (D4RL's own files)",
    'mujoco': 'Locomotion',
    'adroit': 'Hands',
    'kitchen': 'Kitchen',
    'ogbench': "OGBench's single tasks; [-taskN]: 1 to 5, or none for OGBench's default",
    'custom': 'Your own',
}
LEGEND = """\
source     where the data come from. A name without a version is Minari's set; D4RL's spelling
           with its version is D4RL's own file; OGBench's names are OGBench's. --source=minari,
           d4rl or ogbench asks for the same task from elsewhere, as far as the name has it there.
           Only D4RL has medium-replay, and a name of it without version means its file.
protocol   episodes x steps of an evaluation, as DTQL's released code, D4RL and OGBench have them;
           pointmaze: ours.
score      the returns that score 0 and 100 (D4RL's constants); success: the share of successes.
settings   origin of the settings of dtql and diffusion_ql: 'released' code, 'ours' (reasoned, not
           tuned), or 'defaults'. The other agents: docs/agents.md.
--env=minari:<dataset id> takes your own data."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the list; returns the exit code."""
    return run_command(show, FLAGS, __doc__, argv)


def show(asked: flags.FlagValues) -> None:
    """Prints what the flags ask for."""
    print(text() if asked.agent is None else settings_text(asked.agent))


def settings_text(agent: str) -> str:
    """The settings of an agent, a line each."""
    config_class = find_agent(agent).agent.config_class
    types = kinds(config_class)
    rows = [('setting', 'default', 'lanes', 'meaning')]
    for field in dataclasses.fields(config_class):
        default = str(field.default).lower() if types[field.name] is bool else str(field.default)
        differ = 'may differ' if types[field.name] is float else ''
        choices = limits(field).choices
        what = meaning(field) + (f': {", ".join(choices)}' if choices else '')
        rows.append((field.name, default, differ, what))
    width = [max(len(row[i]) for row in rows) for i in range(3)]
    return '\n'.join(
        '  '.join([*(cell.ljust(w) for cell, w in zip(row, width, strict=False)), row[3]]).rstrip()
        for row in rows
    )


def text() -> str:
    """Tables of the registries."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for task in tasks.TASKS.values():
        if '-singletask-task' not in task.name:
            groups.setdefault(task.family, []).append(_row(task))
    head = ('task', 'source', 'data', 'simulator', 'protocol', 'score', 'dtql', 'diffusion_ql')
    parts = []
    for family, rows in groups.items():
        title = FAMILIES.get(family, family)
        parts.append(f'{title}\n{table([head, *rows])}')
    agents = [('agent', 'what it is')]
    agents += [(name, _first_line(found.agent)) for name, found in AGENTS.items()]
    return '\n\n'.join([*parts, LEGEND, table(agents)])


def _row(task: Task) -> tuple[str, ...]:
    name, simulator = task.name, (task.env_id or '').removeprefix('dtql_jax.tasks.simulators:')
    if task.source == 'ogbench':
        name = name.replace('singletask', 'singletask[-taskN]')
        simulator = simulator.replace('singletask', 'singletask[-taskN]')
    if task.scored == 'success':
        score = 'success'
    else:
        low, high = task.score_range or ('', '')
        score = f'{low:g}..{high:g}' if task.score_range else '-'
    return (
        name,
        task.source,
        ' + '.join(_data(dataset) for dataset in task.datasets)
        + (' (collected on the spot)' if task.collect else ''),
        simulator,
        f'{task.eval_episodes} x {task.horizon or "?"}',
        score,
        *(_origin(agent, task.rows) for agent in TUNED),
    )


def _data(dataset: str) -> str:
    """A Minari id as it is; of an address or a path the file's name."""
    return re.sub(r'.*/', '', dataset) if '://' in dataset else dataset


def _origin(agent: str, rows: tuple[str, ...]) -> str:
    """Where an agent's settings for a task come from."""
    row = row_of(agent, rows)
    if row is None:
        return 'defaults'
    return 'ours' if row.startswith(OURS) else 'released'


def _first_line(agent: type) -> str:
    return (sys.modules[agent.__module__].__doc__ or '').strip().splitlines()[0]
