"""Errors of the outside world are one line with a cure, whatever the command."""

import errno
import os
import subprocess
import sys

import pytest

from dtql_jax.cli import main
from dtql_jax.cli.boundary import of_the_user, one_line
from dtql_jax.types import CURES, UserError
from tests.helpers.permissions import obeying_permissions
from tests.helpers.small_runs import CLONING, ENV, ROOT, process

pytestmark = pytest.mark.usefixtures('quick_compile')

COMMANDS = ('train', 'evaluate', 'plot', 'collect', 'list')


def refused(capsys, *arguments):
    """The one line on stderr of `dtql` with these arguments, which ends with exit code 2."""
    assert main.main(['dtql', *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: '), error
    assert error.count('\n') == 1, error
    return error.removeprefix('error: ').rstrip('\n')


def raising(error):
    """A command that fails like this."""

    def work():
        raise error

    return work


class JaxRuntimeError(RuntimeError):
    """As jax calls its own."""


MACHINE = {
    'space': (OSError(errno.ENOSPC, 'No space left on device', 'x/y'), 'device (x/y): free space'),
    'forbidden': (PermissionError(errno.EACCES, 'Permission denied', 'x'), 'change its permission'),
    'read-only': (OSError(errno.EROFS, 'Read-only file system', 'x'), 'that can be written'),
    'open files': (OSError(errno.EMFILE, 'Too many open files'), 'ulimit -n'),
    'folder': (IsADirectoryError(errno.EISDIR, 'Is a directory', 'x'), 'it is a folder'),
    'long': (OSError(errno.ENAMETOOLONG, 'File name too long', 'x'), 'shorten the name'),
    'no number': (OSError('the network is gone'), 'repeat the command'),
    'threads': (RuntimeError("can't start new thread"), 'ulimit -u'),
    'memory': (MemoryError('Unable to allocate 9 GiB'), "the computer's memory is full"),
    'device': (JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory\nwhile'), 'fewer seeds'),
}


@pytest.mark.parametrize('kind', MACHINE)
def test_one_line__an_error_of_the_machine_has_a_cure(kind, capsys):
    error, cure = MACHINE[kind]
    assert one_line(raising(error), ['x']) == 2
    text = capsys.readouterr().err
    assert text.count('\n') == 1
    assert cure in text


def test_one_line__every_error_number_that_has_a_cure_is_a_real_one():
    assert all(os.strerror(number) for number in CURES)


@pytest.mark.parametrize('error', [TypeError('x'), JaxRuntimeError('INTERNAL'), RuntimeError('x')])
def test_one_line__a_bug_stays_a_traceback(error):
    with pytest.raises(type(error)):
        one_line(raising(error), ['x'])


def test_one_line__a_broken_pipe_that_is_not_stdout_is_told(capsys):
    assert one_line(raising(BrokenPipeError(errno.EPIPE, 'Broken pipe')), ['x']) == 2
    assert 'Broken pipe' in capsys.readouterr().err


BAD_TEXT = {
    'nul': 'a\0b',
    'newline': 'a\nb',
    'escape': '\x1b[31m',
    'bytes': os.fsdecode(b'\xff\xfe'),
}


@pytest.mark.parametrize('command', [*COMMANDS, 'nonsense\n'])
@pytest.mark.parametrize('kind', BAD_TEXT)
def test_main__text_that_is_none_is_one_line(command, kind, capsys):
    for flag in ('--env=', '--out=', '--run=', ''):
        line = refused(capsys, command, flag + BAD_TEXT[kind])
        assert 'remove it' in line or 'unknown command' in line


VALUES = [
    ('train', 'env'), ('train', 'agent'), ('train', 'out'), ('train', 'dataset_path'),
    ('train', 'source'), ('train', 'set'), ('train', 'steps'), ('evaluate', 'run'),
    ('evaluate', 'which'), ('evaluate', 'variant'), ('evaluate', 'video'), ('plot', 'out'),
    ('plot', 'runs'), ('collect', 'env'), ('collect', 'policy'), ('collect', 'dataset'),
    ('list', 'env'), ('list', 'agent'),
]  # fmt: skip


@pytest.mark.parametrize(('command', 'flag'), VALUES)
def test_main__empty_values_and_blanks_are_one_line(command, flag, capsys, here):
    line = refused(capsys, command, f'--{flag}=')
    assert line in (
        f'--{flag}= is empty: give a value, or leave it out',
        'no runs to draw: name their folders as --runs=DIR,DIR',
    )
    for value in (' x', 'x ', ' ', '\xa0x'):
        line = refused(capsys, command, f'--{flag}={value}')
        assert 'has blanks at an end: remove them' in line or flag == 'runs'
    assert not list(here.iterdir())


PATHS = [
    ('train', 'out'), ('train', 'dataset_path'), ('evaluate', 'run'), ('plot', 'out'),
    ('plot', 'runs'), ('collect', 'policy'),
]  # fmt: skip
REST = {('plot', 'out'): ['--runs=x'], ('train', 'out'): [f'--env={ENV}']}


@pytest.mark.parametrize(('command', 'flag'), PATHS)
def test_main__paths_that_the_system_refuses_are_one_line(command, flag, capsys, here):
    rest = REST.get((command, flag), [])
    line = refused(capsys, command, f'--{flag}=~nobodyhere/x', *rest)
    assert 'the home folder is unknown: write the whole path' in line
    line = refused(capsys, command, f'--{flag}={"x" * 300}', *rest)
    assert 'File name too long' in line
    assert 'shorten the name' in line
    (here / 'circle').symlink_to('circle')
    assert 'circle' in refused(capsys, command, f'--{flag}=circle/x', *rest)
    (here / 'locked').mkdir(mode=0o000)
    with obeying_permissions():
        line = refused(capsys, command, f'--{flag}=locked/x', *rest)
    assert 'Permission denied' in line or 'locked' in line
    assert {path.name for path in here.iterdir()} == {'circle', 'locked'}


@pytest.fixture
def home(here, monkeypatch):
    """The test's folder is the home too."""
    monkeypatch.setenv('HOME', str(here / 'home'))
    (here / 'home').mkdir()
    yield here / 'home'
    assert not (here / '~').exists()


def test_main__a_tilde_behind_an_equals_sign_is_the_home_folder(home, cloned, capsys):
    (home / 'r').symlink_to(cloned)
    assert main.main(['dtql', 'plot', '--runs=~/r', '--out=~/chart.png']) == 0
    assert capsys.readouterr().out == f'{home}/chart.png\n'
    line = refused(capsys, 'evaluate', '--run=~/r', '--seed=99')
    assert line.startswith(f'{home}/r has no seed 99')
    line = refused(capsys, 'train', f'--env={ENV}', '--out=~/r')
    assert line.startswith(f'{home}/r exists and is never overwritten')
    line = refused(capsys, 'train', '--resume', '--out=~/r', '--lr=7')
    assert line.startswith(f'{home}/r cannot be resumed')
    assert f'{home}/none' in refused(capsys, 'collect', '--policy=~/none')
    assert f'{home}/none.hdf5' in refused(capsys, 'train', '--dataset_path=~/none.hdf5')
    assert f'{home}/mine.py' in refused(capsys, 'train', '--agent=~/mine.py:Mine')


@pytest.mark.parametrize('variable', ['DTQL_DATA_CACHE', 'MINARI_DATASETS_PATH'])
def test_main__a_tilde_in_a_variable_is_the_home_folder(
    variable, home, minari_root, monkeypatch, capsys, no_training
):
    (home / 'sets').symlink_to(minari_root)
    monkeypatch.setenv(variable, '~/sets' if variable.startswith('MINARI') else '~/cache')
    assert main.main(['dtql', 'train', f'--env={ENV}', '--out=~/runs/x', *CLONING]) == 0
    assert (home / 'runs' / 'x' / 'config.json').is_file()
    assert variable.startswith('MINARI') or list((home / 'cache').iterdir())


AGENT = """
from dtql_jax import Agent


def broken():
    {body}


class Mine(Agent):
    def phases(self):
        broken()


{top}
"""
USERS = {
    'import': (AGENT.format(body='pass', top='broken(1)'), 'line 14: TypeError: broken() takes'),
    'exit': (AGENT.format(body='pass', top='raise SystemExit(3)'), 'line 14: SystemExit: 3'),
    'syntax': ('x = (\n', "line 1: SyntaxError: '(' was never closed"),
    'later': (AGENT.format(body='return [][1]', top=''), 'line 6: IndexError: list index out of r'),
}


@pytest.mark.parametrize('case', USERS)
def test_main__an_error_in_a_users_agent_names_file_and_line(case, here, capsys, monkeypatch):
    text, expected = USERS[case]
    monkeypatch.setattr(sys, 'path', list(sys.path))
    file = here / f'users_{case}.py'
    file.write_text(text)
    line = refused(capsys, 'train', f'--env={ENV}', f'--agent={file}:Mine')
    assert line.startswith(f'{file}, {expected}')
    assert ': mend the ' in line


def test_of_the_user__an_error_of_this_package_is_not():
    with pytest.raises(UserError) as caught:
        main.train.define('nonsense')
    assert of_the_user(caught.value) is None


# Streams.

SCRIPT = 'import sys; from dtql_jax.cli.main import main; sys.exit(main(["dtql", *sys.argv[1:]]))'


def shell(redirection, *arguments, **environment):
    """`dtql` in a process of its own whose streams a shell redirects."""
    line = f'exec "$0" -c "$1" "${{@:2}}" {redirection}'
    return subprocess.run(
        ['bash', '-c', line, sys.executable, SCRIPT, *arguments],
        capture_output=True, text=True, check=False,
        env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('closed', ['>&-', '<&-', '2>&-', '<&- >&- 2>&-'])
def test_open_streams__closed_ones_do_no_harm(closed):
    result = shell(closed, 'list', '--env=hopper-medium')
    assert (result.returncode, result.stderr) == (0, '')
    assert ('hopper-medium' in result.stdout) == ('>&-' not in closed.replace('2>&-', ''))


def test_open_streams__a_mistake_with_closed_ones_is_one():
    assert shell('<&- >&- 2>&-', 'list', '--env=hoper').returncode == 2
    result = shell('<&- >&-', 'list', '--env=hoper')
    assert (result.returncode, result.stderr.count('\n')) == (2, 1)


@pytest.mark.slow
def test_one_line__a_full_output_is_told():
    result = shell('>/dev/full', 'list')
    assert result.returncode == 2
    assert result.stderr.startswith('error: No space left on device: free space')
    assert result.stderr.count('\n') == 1
    assert shell('2>/dev/full', 'list', '--env=hoper').returncode == 2


@pytest.mark.slow
def test_open_streams__what_cannot_be_encoded_is_escaped(tmp_path):
    (tmp_path / 'é' / 'data').mkdir(parents=True)
    result = shell('', 'list', f'--env=minari:{tmp_path}/é', PYTHONIOENCODING='ascii')
    assert (result.returncode, result.stderr) == (0, '')
    assert '/\\xe9' in result.stdout
    strict = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    result = shell('', 'list', f'--env=minari:{tmp_path}/é', **strict)
    assert result.returncode == 2
    assert 'a byte that is no text' in result.stderr


@pytest.mark.slow
def test_main__pythons_options_do_no_harm():
    result = process(
        '-O',
        '-Werror',
        '-I',
        '-c',
        f'import sys; sys.path.insert(0, {str(ROOT)!r}); {SCRIPT}',
        'list',
    )
    assert (result.returncode, result.stderr) == (0, '')


# Accounts without a home.

HOMELESS = """
import pwd
def unknown(*_):
    raise KeyError('uid not found')
pwd.getpwuid = pwd.getpwnam = unknown
"""


@pytest.mark.slow
def test_main__an_account_without_a_home_works_or_is_told(tmp_path, cloned):
    environment = {key: value for key, value in os.environ.items() if key != 'HOME'}
    environment |= {'PYTHONPATH': str(ROOT)}
    environment.pop('MINARI_DATASETS_PATH', None)

    def dtql(*arguments):
        return subprocess.run(
            [sys.executable, '-c', HOMELESS + SCRIPT, *map(str, arguments)],
            capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
        )  # fmt: skip

    assert dtql('list').returncode == 0
    assert dtql('plot', f'--runs={cloned}').returncode == 0
    for command in (['train', '--env=pointmaze-umaze', '--dry_run'], ['collect']):
        result = dtql(*command)
        assert result.returncode == 2
        last = result.stderr.splitlines()[-1]
        assert last == (
            'error: MINARI_DATASETS_PATH=~/.minari/datasets: the home folder is unknown: write the '
            'whole path, or set HOME'
        )
    assert not (tmp_path / '~').exists()
