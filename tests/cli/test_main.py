"""`dtql` and its commands, and the scripts of a checkout."""

import os
import subprocess
import sys

import pytest

import dtql_jax
from dtql_jax.cli import collect, evaluate, main, plot
from dtql_jax.cli import list as listing
from dtql_jax.cli.flags import WIDTH
from tests.helpers.small_runs import ROOT, process

SCRIPTS = {'run': 'train', 'evaluate': 'evaluate', 'plot': 'plot', 'collect': 'collect'}
# `dtql train` has sections, and tests of its own.
MODULES = {'evaluate': evaluate, 'plot': plot, 'collect': collect, 'list': listing}


@pytest.mark.parametrize('arguments', [[], ['--help'], ['-h'], ['help']])
def test_main__the_page_names_every_command(arguments, capsys):
    assert main.main(['dtql', *arguments]) == 0
    page, errors = capsys.readouterr()
    assert not errors
    assert page == main.page() + '\n'
    assert page.startswith('dtql: ')
    assert '\n  dtql train --env=antmaze-large-diverse --num_seeds=5\n' in page
    assert all(len(line) <= WIDTH for line in page.splitlines())
    commands = page.split('\nCommands:\n')[1].splitlines()
    assert [line.split()[0] for line in commands] == list(main.COMMANDS)


def test_main__version(capsys):
    assert main.main(['dtql', '--version']) == 0
    assert capsys.readouterr().out == f'{dtql_jax.__version__}\n'


@pytest.mark.parametrize(
    ('name', 'near'),
    [('trian', 'train'), ('?', 'train, sweep, evaluate, export, plot, report, collect, list')],
)
def test_main__an_unknown_command_is_one_line(name, near, capsys):
    assert main.main(['dtql', name]) == 2
    assert capsys.readouterr().err == f'error: unknown command {name!r}; nearest: {near}\n'


def test_main__hands_the_arguments_to_the_command(capsys):
    assert main.main(['dtql', 'plot', '--behaviour=high']) == 2
    assert capsys.readouterr().err == 'error: --behaviour=high: not a number\n'


@pytest.mark.parametrize('name', MODULES)
def test_main__help_is_a_page_of_the_docstring_and_our_flags(name, capsys):
    for flag in ('--help', '-h'):
        assert main.main(['dtql', name, flag]) == 0
        page, errors = capsys.readouterr()
        assert not errors
        module = MODULES[name]
        assert page.startswith(module.__doc__.strip())
        assert all(len(line) <= WIDTH for line in page.splitlines())
        flags = page.split('\nFlags:\n')[1].splitlines()
        assert [x.split()[0].split('=')[0] for x in flags if x.startswith('  --')] == [
            f'--{flag}' for flag in module.FLAGS
        ]
        columns = {len(x) - len(x[2:].split(None, 1)[1]) for x in flags if x.startswith('  --')}
        assert len(columns) == 1, 'not aligned'


def test_main__help_needs_no_jax():
    """But that of `dtql train`, whose flags are the settings of an agent."""
    code = (
        'import sys\n'
        'from dtql_jax.cli.main import main\n'
        'assert main(["dtql"]) == 0\n'
        'for name in ("evaluate", "plot", "collect", "list"):\n'
        '    assert main(["dtql", name, "--help"]) == 0\n'
        'assert "jax" not in sys.modules'
    )
    result = process('-c', code)
    assert result.returncode == 0, result.stderr


def test_main__a_reader_that_has_gone_ends_the_command_quietly():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, '-c', 'from dtql_jax.cli.main import main; exit(main())', 'list']
    result = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (141, '')


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts__are_entries_of_the_commands(name):
    """With a page of their own, from any folder."""
    text = (ROOT / 'experiments' / f'{name}.py').read_text()
    assert f'from dtql_jax.cli.{SCRIPTS[name]} import main\n' in text
    assert len(text.splitlines()) <= 8


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts__have_a_page(name, tmp_path):
    result = process(ROOT / 'experiments' / f'{name}.py', '--help', cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, '')
    assert f'dtql {SCRIPTS[name]} ' in result.stdout
