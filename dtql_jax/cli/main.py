"""dtql: offline reinforcement learning with diffusion policies, many seeds in one program.

  dtql train --env=antmaze-large-diverse --num_seeds=5
  dtql evaluate --run=runs/antmaze-large-diverse-dtql --episodes=100
  dtql plot --runs=runs/a,runs/b --out=comparison.png
  dtql collect --env=pointmaze-large
  dtql list

Commands (each has a page of its own: dtql train --help):
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    'train': 'trains an agent on a task, evaluates and reports',
    'evaluate': 'evaluates the policies of a run again',
    'plot': 'compares runs in one chart',
    'collect': "collects a dataset in a task's simulator",
    'list': 'lists tasks and agents, and where they come from',
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
    command = importlib.import_module(f'dtql_jax.cli.{name}')
    return command.main([f'dtql {name}', *argv[2:]])


def page() -> str:
    """The text of `dtql --help`."""
    width = max(map(len, COMMANDS))
    rows = [f'  {name:<{width}}  {text}' for name, text in COMMANDS.items()]
    return '\n'.join([(__doc__ or '').strip(), *rows])
