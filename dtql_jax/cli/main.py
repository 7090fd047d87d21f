"""dtql: offline reinforcement learning with diffusion policies, many seeds in one program.

  dtql train                          # a demonstration, without a download
  dtql train --env=antmaze-large-diverse --num_seeds=5
  dtql sweep --env=hopper-medium,walker2d-medium --agent=dtql,iql --out=studies/first
  dtql evaluate --run=runs/antmaze-large-diverse-dtql --episodes=100
  dtql export --run=runs/antmaze-large-diverse-dtql --out=policy --format=onnx
  dtql plot --runs=runs/a,runs/b --out=comparison.png

Each command has a page of its own, such as `dtql train --help`.
"""

import difflib
import sys
from collections.abc import Callable, Sequence

from dtql_jax.cli import collect, evaluate, export, plot, report, sweep, train
from dtql_jax.cli import list as listing
from dtql_jax.cli.flags import columns

Command = Callable[[Sequence[str]], int]

# name -> its function and what it does
COMMANDS: dict[str, tuple[Command, str]] = {
    'train': (train.main, 'trains an agent on a task, evaluates and reports'),
    'sweep': (sweep.main, 'runs a study: many tasks, agents, settings and seeds'),
    'evaluate': (evaluate.main, 'evaluates the policies of a run again'),
    'export': (export.main, 'exports a policy for programs without this package'),
    'plot': (plot.main, 'compares runs in one chart'),
    'report': (report.main, 'writes the report of a study: a page and tables'),
    'collect': (collect.main, "collects a dataset in a task's simulator"),
    'list': (listing.main, 'lists tasks, agents and their settings'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns its exit code."""
    argv = list(sys.argv if argv is None else argv)
    name = argv[1] if len(argv) > 1 else '--help'
    if name in ('--help', '-h', 'help'):
        print(page())
        return 0
    if name == '--version':
        from dtql_jax import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1) or COMMANDS
        print(f'error: unknown command {name!r}; nearest: {", ".join(near)}', file=sys.stderr)
        return 2
    command, _ = COMMANDS[name]
    return command([f'dtql {name}', *argv[2:]])


def page() -> str:
    """The text of `dtql --help`."""
    rows = columns([(name, text) for name, (_, text) in COMMANDS.items()])
    return '\n'.join([(__doc__ or '').strip(), '', 'Commands:', *(f'  {row}' for row in rows)])
