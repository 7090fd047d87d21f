"""What launchers share."""

import signal
import sys

import pytest

from dtql_jax.agents.settings import kinds
from dtql_jax.runs.plan import OF_ANY_RUN
from dtql_jax.studies.launch import LaunchOptions, StudyStopped, command
from dtql_jax.types import UserError


def test_command__is_python_and_its_words(tmp_path):
    words = command(tmp_path, 'a-b=1')
    assert words == [sys.executable, '-m', 'dtql_jax.studies.job', str(tmp_path), 'a-b=1']


def test_launch_options__have_names_of_their_own():
    """The command line has one flag for each."""
    from dtql_jax.agents.registry import AGENTS

    names = set(kinds(LaunchOptions))
    assert not names & set(OF_ANY_RUN)
    for name, found in AGENTS.items():
        assert not names & set(kinds(found.agent.config_class)), name


def test_launch_options__check_their_values():
    with pytest.raises(UserError, match='`jobs_per_device`=0: must be at least 1'):
        LaunchOptions(jobs_per_device=0)


def test_study_stopped__names_the_folder_and_the_signal(tmp_path):
    stopped = StudyStopped(tmp_path, 2)
    assert stopped.signal == signal.SIGINT
    assert str(tmp_path) in str(stopped)
