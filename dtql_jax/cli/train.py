"""Trains an offline-RL agent on one task, many seeds at once in one compiled program.

  dtql train                                        # a demonstration, no download
  dtql train --env=antmaze-large-diverse --num_seeds=5
  dtql train --env=hopper-medium --alpha=2.0 --nolr_decay
  dtql train --env=hopper-medium --agent=my_module:MyAgent
  dtql train --out=runs/x --resume                  # continue a run that was stopped
  dtql train --env=hopper-medium --dry_run          # print the plan and stop
  dtql train --agent=idql --help                    # the settings of an agent

`python experiments/run.py` is the same command. `dtql list` names the tasks and agents.

A run writes a folder: config.json, metrics.jsonl, eval.jsonl, curves.png, table.txt, checkpoints/.
Ctrl-C or SIGTERM leave a checkpoint, and --resume continues bit for bit.

Exit codes: 0 done; 1 every seed diverged; 2 a mistake in what was asked for, told in one line;
130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.flags import as_flags, define_settings, given, run_command
from dtql_jax.types import UserError

NO_REQUEST = ('out', 'resume', 'set', 'dry_run', 'list')


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code."""
    argv = list(sys.argv if argv is None else argv)
    try:
        flag_values, sections = define(*agent_named(argv))
    except UserError as error:
        print(f'error: {as_flags(str(error), define("dtql")[0])}', file=sys.stderr)
        return 2
    return run_command(train, flag_values, __doc__, argv, sections)


def agent_named(argv: Sequence[str]) -> tuple[str, str | None]:
    """The agent, which decides what other flags there are, and the file of a user's own.

    It is the value of --agent or, where a run is resumed, the run's.
    """
    if name := value_of('agent', argv):
        return name, None
    out = value_of('out', argv)
    if out and any(argument.startswith(('--resume', '-resume')) for argument in argv):
        from dtql_jax.runs.folder import read_run

        recorded = read_run(pathlib.Path(out))
        return recorded['request']['agent'], recorded['agent_file']
    return 'dtql', None


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """The last value of a flag in the arguments, None without one."""
    value = None
    for argument, after in zip(argv, [*argv[1:], ''], strict=True):
        name, equals, text = argument.partition('=')
        if name in (f'--{flag}', f'-{flag}'):
            value = text if equals else after
    return value


def define(agent: str, file: str | None = None) -> tuple[flags.FlagValues, dict[str, list[str]]]:
    """The flags of the command for an agent, and in which sections the help page has them."""
    from dtql_jax.agents.registry import find_agent
    from dtql_jax.runs.plan import FREE, Request, TaskSettings

    values = flags.FlagValues()
    define_settings(Request, values, [n for n in Request.__dataclass_fields__ if n not in FREE])
    flags.DEFINE_list('log_to', [], 'also log to: wandb, tensorboard', values)
    flags.DEFINE_string('out', None, 'run folder (default: runs/<env>-<agent>)', values)
    flags.DEFINE_bool('resume', False, 'continue the run in --out', values)
    flags.DEFINE_multi_string(
        'set', [], 'name=value: a setting, as by its own flag; may be repeated', values
    )
    flags.DEFINE_bool('dry_run', False, 'print the plan and stop', values)
    flags.DEFINE_bool('list', False, 'list tasks and agents and stop', values)
    run = list(values)
    define_settings(TaskSettings, values)
    maze = list(values)[len(run) :]
    define_settings(find_agent(agent, file).agent.config_class, values)
    settings = list(values)[len(run) + len(maze) :]
    sections = {'Flags': run, 'Settings of a maze': maze, f'Settings of {agent}': settings}
    return values, sections


def train(asked: flags.FlagValues) -> int:
    """Trains as the flags ask for; returns the exit code."""
    from dtql_jax.cli.list import text
    from dtql_jax.runs.run import Interrupted, run

    if asked.list:
        print(text())
        return 0
    request = given(asked, [name for name in asked if name not in NO_REQUEST])
    if asked.set:
        request['settings'] = parse_settings(asked.set)
    try:
        result = run(request, out=asked.out, resume=asked.resume, dry_run=asked.dry_run)
    except Interrupted as stopped:
        print(f'{stopped}: continue with --out={stopped.run_dir} --resume', file=sys.stderr)
        return 128 + stopped.signal
    if result is None:
        return 0
    print(
        f'folder    {result.run_dir}\n'
        f'curves    {result.curves}\n'
        f'evaluate  dtql evaluate --run={result.run_dir} --episodes=100\n'
        f"use       policy = dtql_jax.load_policy('{result.run_dir}'); action = policy(obs)"
    )
    return 1 if result.failed else 0


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """`['alpha=0.5', ...]` as a dict; UserError where there is no `=`, or a name twice."""
    pairs: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition('=')
        if not equals or not name:
            raise UserError(f'--set {setting}: write --set name=value')
        if name in pairs:
            raise UserError(f'--set {name} is given twice')
        pairs[name] = value
    return pairs
