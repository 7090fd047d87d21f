"""Trains an offline-RL agent on one task, many seeds at once in one compiled program.

  dtql train                                        # a demonstration, without a download
  dtql train --env=antmaze-large-diverse --num_seeds=5
  dtql train --env=hopper-medium --alpha=2.0 --nolr_decay
  dtql train --env=hopper-medium --sweep alpha=0.5,1  # every seed with each value, in one program
  dtql train --env=hopper-medium --agent=my_module:MyAgent
  dtql train --out=runs/x --resume                  # continue a run that was stopped
  dtql train --out=runs/x --resume --steps=200000   # train on for longer
  dtql train --out=runs/x --resume --online_steps=50000   # go on in the environment
  dtql train --env=walker2d-medium --init_from=runs/x   # start from the networks of a run
  dtql train --env=hopper-medium --dry_run          # print the plan and stop
  dtql train --agent=idql --help                    # the settings of another agent

`dtql list` names the tasks and agents. `python experiments/run.py` is the same command.

A run writes a folder: config.json, metrics.jsonl, eval.jsonl, curves.png, table.txt, checkpoints/.
Ctrl-C and SIGTERM save a checkpoint. --resume continues from it, bit for bit, and takes from the
run whatever is not given again. Only --steps, --online_steps, --eval_every and --eval_episodes may
differ from the run's, and --steps not where a learning rate decays over it.

Exit codes: 0 done; 1 no seed has a score, as each diverged or could not be evaluated; 2 a mistake
in a flag or an error of the machine (disk, memory, permission), which one line explains; 130 and
143 stopped by Ctrl-C and SIGTERM.
"""

import re
import sys
from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.boundary import one_line
from dtql_jax.cli.flags import as_flags, define_settings, given, run_command
from dtql_jax.types import UserError, check_text, user_path

NO_REQUEST = ('out', 'resume', 'set', 'sweep', 'dry_run', 'list')


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code."""
    argv = list(sys.argv if argv is None else argv)

    def work() -> int:
        flag_values, sections = define(agent_asked(argv))
        return run_command(train, flag_values, __doc__ or '', argv, sections)

    return one_line(work, argv, lambda text: as_flags(text, define_run()))


def agent_asked(argv: Sequence[str]) -> str:
    """The agent, whose settings are flags too.

    It is the value of --agent or, where a run is resumed, the agent of the run, which is imported.
    """
    from dtql_jax.runs.folder import read_run, restore_agent

    asked = define_run()
    asked.set_gnu_getopt(True)  # reads on after a word that is no flag
    try:
        asked(argv, known_only=True)
    except (flags.Error, ValueError):  # which the parsing of all flags will report
        return 'dtql'
    check_text('agent', asked.agent)
    if asked.resume and asked.out:
        recorded = read_run(user_path('out', asked.out))
        name = recorded['request']['agent']
        if not asked['agent'].present or asked.agent == name:
            restore_agent(recorded)
            return name
    return asked.agent


def define_run() -> flags.FlagValues:
    """The flags that do not depend on the agent."""
    from dtql_jax.runs.plan import FREE, Request

    values = flags.FlagValues()
    define_settings(Request, values, [n for n in Request.__dataclass_fields__ if n not in FREE])
    flags.DEFINE_list('log_to', [], 'log to these too: wandb, tensorboard', values)
    flags.DEFINE_string('out', None, 'run folder (default: runs/<env>-<agent>)', values)
    flags.DEFINE_bool('resume', False, 'continue the run in --out, or for more --steps', values)
    flags.DEFINE_multi_string(
        'set', [], 'name=value: another way to give a flag; may be repeated', values
    )
    flags.DEFINE_multi_string(
        'sweep',
        [],
        'name=a,b: values of a float setting, lanes of their own; may be repeated',
        values,
    )
    flags.DEFINE_bool('dry_run', False, 'print the plan and stop', values)
    flags.DEFINE_bool('list', False, 'list tasks and agents, as `dtql list` does, and stop', values)
    return values


def define(agent: str) -> tuple[flags.FlagValues, dict[str, list[str]]]:
    """All flags of the command for an agent, and the sections of the help page."""
    from dtql_jax.agents.registry import find_agent
    from dtql_jax.runs.plan import label
    from dtql_jax.runs.task_settings import TaskSettings

    values = define_run()
    sections = {
        'Flags': list(values),
        'Settings of a task': define_settings(TaskSettings, values),
        f'Settings of {label(agent)} (many tasks have defaults of their own)': define_settings(
            find_agent(agent).agent.config_class, values
        ),
    }
    return values, sections


def train(asked: flags.FlagValues) -> int:
    """Trains as the flags ask for; returns the exit code."""
    from dtql_jax.cli.list import text
    from dtql_jax.runs.folder import read_run, task_of_run
    from dtql_jax.runs.result import Interrupted
    from dtql_jax.runs.run import run

    if asked.list:
        print(text())
        return 0
    request = given(asked, [name for name in asked if name not in NO_REQUEST])
    for name, value in parse_settings(asked.set).items():
        if name in request:
            raise UserError(f'--{name} is given twice: as a flag and as --set {name}')
        request[name] = value
    if asked.sweep:
        request['variants'] = sweep_lanes(asked)
    try:
        result = run(request, out=asked.out, resume=asked.resume, dry_run=asked.dry_run)
    except Interrupted as stopped:
        print(f'{stopped}: continue with --out={stopped.run_dir} --resume', file=sys.stderr)
        return 128 + stopped.signal
    if result is None:
        return 0
    again = f'evaluate  dtql evaluate --run={result.run_dir} --episodes=100\n'
    print(
        f'folder    {result.run_dir}\n'
        f'curves    {result.curves}\n'
        f'{again if task_of_run(read_run(result.run_dir)).has_env else ""}'
        f"use       policy = dtql_jax.load_policy('{result.run_dir}'); action = policy(obs)"
    )
    return 1 if result.failed else 0


def sweep_lanes(asked: flags.FlagValues) -> dict[str, dict[str, float]]:
    """The variants of --sweep.

    Raises:
        UserError: lanes of one program cannot differ in a setting, or a value is wrong.
    """
    from dtql_jax.agents.registry import find_agent
    from dtql_jax.studies.plan import float_grid, variants

    grid = parse_grid(asked.sweep)
    if asked.resume:
        raise UserError('--sweep: a run that is resumed keeps its lanes; leave it out')
    agent = find_agent(asked.agent).agent
    return variants(float_grid(agent, grid))


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`['alpha=0.5,1', ...]` as a dict of lists.

    Raises:
        UserError: a text has no `=` or an empty value, or a name is given twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition('=')
        found = re.split(r',(?![^()]*\))', values)  # not within `clip(-1,1)`
        if not equals or not name or not all(found):
            raise UserError(f'--sweep {text}: write --sweep name=value,value')
        if name in grid:
            raise UserError(f'--sweep {name} is given twice')
        grid[name] = found
    return grid


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """`['alpha=0.5', ...]` as a dict.

    Raises:
        UserError: a text has no `=`, or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals or not name:
            raise UserError(f'--set {text}: write --set name=value')
        if name in pairs:
            raise UserError(f'--set {name} is given twice')
        pairs[name] = value
    return pairs
