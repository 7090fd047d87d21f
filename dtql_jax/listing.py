"""The text of `--list`: every task and agent, and where they come from."""

import sys

from dtql_jax import tasks
from dtql_jax.agents import AGENTS
from dtql_jax.configs import has_row
from dtql_jax.console import table


def text() -> str:
    """Tables of the registries."""
    rows = [('task', 'data', 'environment', 'horizon', 'episodes', 'score 0..100', 'settings')]
    for task in tasks.TASKS.values():
        span = '-' if task.score_range is None else '{:g}..{:g}'.format(*task.score_range)
        tuned = [name for name in AGENTS if has_row(name, task.name)]
        rows.append((
            task.name,
            ' + '.join(task.datasets) + (' (collected on the spot)' if task.collect else ''),
            task.env_id or '',
            str(task.horizon),
            str(task.eval_episodes),
            span,
            ', '.join(tuned) or 'defaults',
        ))  # fmt: skip
    agents = [('agent', 'what it is')]
    agents += [(name, _first_line(agent)) for name, agent in AGENTS.items()]
    return (
        f'{table(rows)}\n\n{table(agents)}\n\n'
        'D4RL spellings such as antmaze-large-diverse-v2 work too, and --env=minari:<dataset id> '
        'takes your own data.'
    )


def _first_line(agent: type) -> str:
    return (sys.modules[agent.__module__].__doc__ or '').strip().splitlines()[0]
