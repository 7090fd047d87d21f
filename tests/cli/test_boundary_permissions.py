"""Folders without permission, for data, runs, caches and logs: one line, whatever the command."""

import shutil

import pytest

from dtql_jax.cli import main
from tests.helpers.permissions import obeying_permissions
from tests.helpers.small_runs import CLONING, ENV

TRAIN = ['train', f'--env={ENV}', *CLONING]
MODES = {'closed': 0o000, 'read-only': 0o500, 'not to be entered': 0o600}


def refused(capsys, *arguments):
    """The one line on stderr of `dtql` with these arguments, which may not pass permissions."""
    with obeying_permissions():
        assert main.main(['dtql', *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith('W')]  # absl's warnings
    assert len(lines) == 1, error
    assert lines[0].startswith('error: ')
    return lines[0].removeprefix('error: ')


@pytest.fixture(params=MODES)
def locked(request, here):
    """A folder of one of these modes."""
    folder = here / 'locked'
    folder.mkdir()
    folder.chmod(MODES[request.param])
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize('dry', [[], ['--dry_run']])
def test_train__a_folder_for_runs(dry, locked, capsys, no_training):
    if dry and locked.stat().st_mode & 0o100:
        pytest.skip('a dry run writes nothing')
    line = refused(capsys, *TRAIN, *dry, f'--out={locked}/x')
    assert str(locked) in line
    locked.chmod(0o700)
    assert main.main(['dtql', *TRAIN, f'--out={locked}/x']) == 0


def test_train__a_folder_for_the_default_run(here, capsys, no_training):
    (here / 'runs').mkdir(mode=0o500)
    assert 'cannot be made' in refused(capsys, *TRAIN)


@pytest.mark.parametrize('command', [TRAIN, ['collect', '--steps=100']])
def test_commands__a_root_of_datasets(command, locked, capsys, monkeypatch):
    monkeypatch.setattr('dtql_jax.data.minari._online', lambda: False)
    monkeypatch.setenv('MINARI_DATASETS_PATH', f'{locked}/sets')
    assert 'sets' in refused(capsys, *command)


@pytest.mark.parametrize('command', [TRAIN, [*TRAIN, '--dry_run']])
def test_train__data_that_may_not_be_read(command, minari_root, here, capsys, monkeypatch):
    shutil.copytree(minari_root, here / 'sets')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(here / 'sets'))
    for path in ('test/pendulum-v0/data/main_data.hdf5', 'test/pendulum-v0/data', 'test'):
        mode = (here / 'sets' / path).stat().st_mode
        (here / 'sets' / path).chmod(0o000)
        assert 'pendulum-v0' in refused(capsys, *command)
        (here / 'sets' / path).chmod(mode)
    assert not (here / 'runs').exists()


@pytest.mark.parametrize('variable', ['DTQL_DATA_CACHE', 'TMPDIR', 'MPLCONFIGDIR'])
def test_train__a_cache_never_stops_a_run(variable, locked, capsys, monkeypatch, no_training):
    monkeypatch.setenv(variable, f'{locked}/x')
    with obeying_permissions():
        assert main.main(['dtql', *TRAIN, '--out=mine']) == 0
    output = capsys.readouterr()
    assert 'Traceback' not in output.err + output.out


@pytest.mark.slow
@pytest.mark.parametrize('flags', [[], ['--which=best']])
def test_evaluate__a_run_that_may_not_be_read_or_written(flags, cloned, here, capsys):
    run = here / 'run'
    shutil.copytree(cloned, run)
    command = ['evaluate', f'--run={run}', '--episodes=1', '--seed=0', '--eval_envs=1', *flags]
    (run / 'config.json').chmod(0o000)
    assert 'config.json' in refused(capsys, *command)
    (run / 'config.json').chmod(0o600)
    run.chmod(0o000)
    assert str(run) in refused(capsys, *command)
    run.chmod(0o500)
    assert 'reeval.jsonl' in refused(capsys, *command)
    run.chmod(0o700)
    assert main.main(['dtql', *command]) == 0


def test_plot__a_chart_that_may_not_be_written(cloned, locked, capsys):
    line = refused(capsys, 'plot', f'--runs={cloned}', f'--out={locked}/chart.png')
    assert str(locked) in line


def test_list__needs_no_folder(locked, capsys, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', f'{locked}/sets')
    monkeypatch.chdir('/')
    with obeying_permissions():
        assert main.main(['dtql', 'list']) == 0
