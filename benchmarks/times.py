"""A table of times like the paper's, from the result files: training and acting of four methods.

  python benchmarks/times.py --env=halfcheetah-medium

Updates/s are those of `training_speed_cpu.json`, actions those of `inference_speed_cpu.json`. The
hours are those updates for each phase as long as the agent's settings for the task make it.
"""

import json
import pathlib
import sys
from typing import Any

from absl import flags

from dtql_jax.agents.registry import row_of
from dtql_jax.cli.flags import run_command
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.types import Spec

FLAGS = flags.FlagValues()
flags.DEFINE_string('results', 'benchmarks/results', 'folder of the result files', FLAGS)
flags.DEFINE_string('env', 'halfcheetah-medium', 'the task whose lengths of phases count', FLAGS)
flags.DEFINE_list('agents', ['dtql', 'diffusion_ql', 'idql', 'srpo'], 'algorithms', FLAGS)

SIZE = {'dims': '17/6', 'batch_size': 256, 'seeds': 1, 'variant': ''}


def read(results: str, name: str) -> dict[str, Any]:
    """A result file."""
    return json.loads(pathlib.Path(results, f'{name}.json').read_text())


def phases(env: str, agent: str) -> tuple[dict[str, int], bool]:
    """The updates of each phase of an agent on a task, and whether its table has the task."""
    plan = make_plan(make_request({'env': env, 'agent': agent}))
    found = plan.agent(Spec(17, 6), plan.config).phases()
    return {p.name: p.steps for p in found}, row_of(agent, plan.task.rows) is not None


def table(results: str, env: str, agents: list[str]) -> str:
    """The table as Markdown."""
    training, acting = (read(results, f'{n}_speed_cpu') for n in ('training', 'inference'))
    columns = 'agent | updates | updates/s | ms per update | whole training | candidates'
    lines = [f'| {columns} | ms per action |', '|---|---|---|---|---|---|---|']
    for agent in agents:
        (row,) = (r for r in training['results'] if {**SIZE, 'agent': agent}.items() <= r.items())
        rates, (steps, known) = row['updates_per_s'], phases(env, agent)
        hours = sum(n / rates[name] for name, n in steps.items()) / 3600
        size = {'agent': agent, 'dims': SIZE['dims'], 'batch': 1}
        actions = [r for r in acting['results'] if size.items() <= r.items()]
        action = max(actions, key=lambda r: r['candidates'] or 1)  # the agent's own number
        cells = [
            f'`{agent}`' + ('' if known else ' (defaults)'),
            ' + '.join(f'{n:,}' for n in steps.values()),
            ', '.join(f'{rates[name]:.0f}' for name in steps),
            ', '.join(f'{1e3 / rates[name]:.1f}' for name in steps),
            f'{hours:.1f} h',
            str(action['candidates'] or 1),
            f'{action["ms_per_call"]:.2f}',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(asked: flags.FlagValues) -> None:
    print(table(asked.results, asked.env, asked.agents))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
