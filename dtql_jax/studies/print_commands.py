"""The launcher that starts nothing: it prints the command of each job, for `xargs` and others."""

import shlex

from dtql_jax.studies.launch import Launch, LaunchOptions, command


def check(options: LaunchOptions) -> None:
    """It works everywhere."""
    del options


def launch(work: Launch) -> None:
    """Prints the commands, one a line, and nothing else."""
    for job in work.jobs:
        print(shlex.join(command(work.study_dir, job)))
