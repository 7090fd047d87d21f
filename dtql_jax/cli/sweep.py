"""Runs a study: tasks, agents, settings and seeds, many jobs with one command.

  dtql sweep --env=hopper-medium,walker2d-medium --agent=dtql,iql --num_seeds=10 --out=studies/first
  dtql sweep --sweep alpha=0.5,1,5 --sweep hidden=256,512 --out=studies/second
  dtql sweep --study=first.toml                     # the same from a file, into studies/first
  dtql sweep --out=studies/first                    # go on with a study that was stopped
  dtql sweep --out=studies/first --status           # how it goes, from any machine
  dtql sweep --study=first.toml --dry_run           # print the plan and stop
  dtql sweep --study=first.toml --launcher=print    # print the command of each job

Values of a float setting become lanes of one program, those of any other setting jobs. A job is a
run folder in OUT/jobs. Everything is checked before the first job starts. What a flag gives stands
above the study's file.

Ctrl-C and SIGTERM stop a study, and its jobs save their checkpoints. The same command goes on, also
after a kill. `python experiments/sweep.py` is the same command.

Exit codes: 0 done; 1 a job failed, was stopped, or has no score; 2 a mistake in a flag or an error
of the machine, which one line explains; 130 and 143 stopped by Ctrl-C and SIGTERM. A launcher that
does not wait, such as print, ends with 0.
"""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from dtql_jax.cli.boundary import one_line
from dtql_jax.cli.flags import as_flags, define_settings, given, run_command
from dtql_jax.cli.train import parse_grid, parse_settings
from dtql_jax.types import UserError, user_path

NO_SETTINGS = ('study', 'out', 'launcher', 'status', 'dry_run', 'retry_failed', 'set', 'sweep')
AGENTS = ('dtql',)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a study; returns the exit code."""
    argv = list(sys.argv if argv is None else argv)

    def work() -> int:
        flag_values, sections = define(agents_asked(argv))
        return run_command(run_study, flag_values, __doc__ or '', argv, sections)

    return one_line(work, argv, lambda text: as_flags(text, define_study()))


def define_study() -> flags.FlagValues:
    """The flags that do not depend on the agents."""
    from dtql_jax.runs.plan import FREE, Request
    from dtql_jax.studies.launch import LAUNCHERS, LaunchOptions

    values = flags.FlagValues()
    flags.DEFINE_list('env', None, 'tasks, see `dtql list` (default: pointmaze-umaze)', values)
    flags.DEFINE_list('agent', None, 'agents (default: dtql)', values)
    flags.DEFINE_multi_string(
        'sweep', [], 'name=a,b: values to try of a setting; may be repeated', values
    )
    flags.DEFINE_string('study', None, 'a file with the study, .toml', values)
    flags.DEFINE_string(
        'out', None, "the study's folder (default: studies/NAME of its file)", values
    )
    flags.DEFINE_bool('status', False, 'print how the study goes, and stop', values)
    flags.DEFINE_bool('dry_run', False, 'print the plan and stop', values)
    flags.DEFINE_bool('retry_failed', False, 'start jobs again that failed', values)
    flags.DEFINE_string('launcher', 'local', f'who starts jobs: {", ".join(LAUNCHERS)}', values)
    flags.DEFINE_list(
        'modules',
        None,
        'files that every job imports first: they register tasks and agents',
        values,
    )
    flags.DEFINE_list('log_to', None, 'log to these too: wandb, tensorboard', values)
    flags.DEFINE_multi_string(
        'set', [], 'name=value: another way to give a flag; may be repeated', values
    )
    define_settings(Request, values, [n for n in Request.__dataclass_fields__ if n not in FREE])
    define_settings(LaunchOptions, values)
    return values


def define(agents: Sequence[str]) -> tuple[flags.FlagValues, dict[str, list[str]]]:
    """All flags of the command for some agents, and the sections of the help page."""
    from dtql_jax.agents.registry import find_agent
    from dtql_jax.agents.settings import kinds
    from dtql_jax.runs.plan import label
    from dtql_jax.runs.task_settings import TaskSettings
    from dtql_jax.studies.launch import LaunchOptions

    values = define_study()
    launching = list(kinds(LaunchOptions))
    sections = {
        'Flags': [name for name in values if name not in launching],
        'How jobs are started': launching,
        'Settings of a task': define_settings(TaskSettings, values),
    }
    for agent in agents:
        names = define_settings(find_agent(agent).agent.config_class, values)
        if names:
            sections[f'Settings of {label(agent)} (many tasks have defaults of their own)'] = names
    return values, sections


def agents_asked(argv: Sequence[str]) -> Sequence[str]:
    """The agents, whose settings are flags too: those of --agent, or of the study's file."""
    from dtql_jax.studies.plan import import_modules
    from dtql_jax.studies.study import read_study

    asked = define_study()
    asked.set_gnu_getopt(True)  # reads on after a word that is no flag
    try:
        asked(argv, known_only=True)
    except (flags.Error, ValueError):  # which the parsing of all flags will report
        return AGENTS
    study = read_study(user_path('study', asked.study)) if asked.study else None
    import_modules(asked.modules or (study.modules if study else ()))
    return asked.agent or (study.agent if study else AGENTS)


def run_study(asked: flags.FlagValues) -> int:
    """Runs the study that the flags ask for; returns the exit code."""
    from dtql_jax.agents.settings import kinds
    from dtql_jax.studies.launch import LaunchOptions, StudyStopped
    from dtql_jax.studies.status import DONE, FAILED, STOPPED, read_status
    from dtql_jax.studies.sweep import sweep
    from dtql_jax.studies.tables import status_table

    if asked.status:
        if asked.out is None:
            raise UserError('`out` is missing: name the folder of the study')
        print(status_table(read_status(user_path('out', asked.out))))
        return 0
    try:
        found = sweep(
            study_asked(asked),
            out=default_out(asked),
            launcher=asked.launcher,
            retry_failed=asked.retry_failed,
            dry_run=asked.dry_run,
            **given(asked, list(kinds(LaunchOptions))),
        )
    except StudyStopped as stopped:
        print(f'{stopped}; go on with dtql sweep --out={stopped.study_dir}', file=sys.stderr)
        return 128 + stopped.signal
    if asked.launcher == 'print' or (asked.launcher == 'slurm' and not asked.wait):
        return 0  # the states are those of before: others run the jobs
    bad = [s for s in found if s.state in (FAILED, STOPPED) or (s.state == DONE and s.reason)]
    return 1 if bad else 0


def default_out(asked: flags.FlagValues) -> str | None:
    """The study's folder; that of a file's name where none is given."""
    if asked.out is None and asked.study:
        return f'studies/{user_path("study", asked.study).stem}'
    return asked.out


def study_asked(asked: flags.FlagValues) -> dict[str, Any] | None:
    """The fields of the study: those of its file, and above them those of the flags.

    None where neither is given, which goes on with the study in --out.

    Raises:
        UserError: a setting is given twice.
    """
    from dtql_jax.agents.settings import kinds
    from dtql_jax.studies.launch import LaunchOptions
    from dtql_jax.studies.study import as_fields, read_study

    launching = kinds(LaunchOptions)
    names = [name for name in asked if name not in NO_SETTINGS and name not in launching]
    fields = given(asked, names)
    for name, value in parse_settings(asked.set).items():
        if name in fields:
            raise UserError(f'--{name} is given twice: as a flag and as --set {name}')
        fields[name] = value
    grid = parse_grid(asked.sweep)
    if asked.study:
        of_file = as_fields(read_study(user_path('study', asked.study)))
        grid = {**of_file.get('sweep', {}), **grid}
        fields = {**of_file, **fields}
    if grid:
        fields['sweep'] = grid
    return fields or None
