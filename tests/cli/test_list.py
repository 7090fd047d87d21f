"""`dtql list`."""

import re
import sys

import pytest

from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.settings import kinds
from dtql_jax.cli import list as listing
from dtql_jax.cli.flags import WIDTH
from dtql_jax.tasks import registry as tasks
from tests.helpers.small_runs import refused


def test_text__names_every_task_and_agent_with_their_sources(capsys):
    assert listing.main(['dtql list']) == 0
    text = capsys.readouterr().out
    words = set(text.split())
    for name in [*tasks.TASKS, *AGENTS]:
        assert re.sub(r'singletask(-task\d)?', 'singletask[-taskN]', name) in words
    (ant,) = (line for line in text.splitlines() if line.startswith('antmaze-large-diverse '))
    assert ant.split()[1:] == ['minari', '100', 'x', '1000', '0..1', 'released', 'released']
    (cube,) = (line for line in text.splitlines() if line.startswith('cube-single-play'))
    assert cube.split()[-6:] == ['50', 'x', '200', 'success', 'ours', 'ours']
    assert 'arXiv 2405.19690' in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_task_text__has_the_data_and_the_simulator(capsys):
    assert listing.main(['dtql list', '--env=antmaze-large-diverse']) == 0
    facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert facts['data'] == 'D4RL/antmaze/large-diverse-v1'
    assert facts['simulator'] == 'AntMaze_Large_Diverse_GR-v4'
    assert facts['protocol'] == '100 x 1000 (episodes x steps)'
    assert facts['settings'] == 'released for dtql, released for diffusion_ql'
    assert facts['goal'] == 'relabel'


def test_task_text__describes_every_task():
    for task in tasks.TASKS:
        text = listing.task_text(task)
        assert text.startswith(f'task       {task}\n')
        assert '\ndata ' in text
        assert all(len(line) <= WIDTH for line in text.splitlines()), task


@pytest.mark.parametrize('agent', AGENTS)
def test_settings_text__has_a_line_for_each_setting(agent):
    heading, *lines = listing.settings_text(agent).splitlines()
    assert heading.split() == ['setting', 'default', 'lanes', 'meaning']
    config_class = AGENTS[agent].agent.config_class
    names = [line.split()[0] for line in lines if not line.startswith(' ')]
    assert names == list(kinds(config_class))
    differ = {line.split()[0] for line in lines if 'may differ' in line}
    assert differ == set(config_class().floats())
    assert all(len(line) <= WIDTH for line in [heading, *lines])


def test_main__refuses_what_there_is_not(capsys):
    assert "unknown agent 'iqdl'" in refused(capsys, listing.main, '--agent=iqdl')
    assert "unknown task 'hoper'" in refused(capsys, listing.main, '--env=hoper')


def test_first_line__is_that_of_the_agents_module():
    for found in AGENTS.values():
        assert sys.modules[found.agent.__module__].__doc__.startswith(
            listing._first_line(found.agent)
        )
