"""`dtql sweep`: its flags and exit codes."""

import pytest

from dtql_jax.cli import sweep, train
from dtql_jax.studies import sweep as sweep_module
from dtql_jax.studies.launch import StudyStopped
from dtql_jax.studies.status import JobStatus
from dtql_jax.studies.study import to_toml
from tests.helpers.small_runs import ENV, refused

FIELDS = {'env': ['pointmaze-umaze'], 'agent': ['iql'], 'hidden': 8, 'sweep': {'beta': [1, 3]}}


@pytest.fixture
def asked(monkeypatch):
    """What `dtql_jax.sweep` is asked for; its result is the list's `.result`."""

    class Calls(list):
        def __init__(self):
            super().__init__()
            self.result = []

    calls = Calls()

    def fake(study, **arguments):
        calls.append((study, arguments))
        return calls.result

    monkeypatch.setattr(sweep_module, 'sweep', fake)
    return calls


def run(*flags):
    return sweep.main(['dtql sweep', *flags])


def test_parse_grid__a_comma_within_parentheses_separates_nothing():
    found = train.parse_grid(['reward=none,clip(-1,1)', 'alpha=1,2'])
    assert found == {'reward': ['none', 'clip(-1,1)'], 'alpha': ['1', '2']}


def test_main__flags_are_the_fields_of_a_study(asked):
    code = run(
        '--env=a,b', '--agent=dtql,iql', '--num_seeds=3', '--alpha=2', '--expectile=0.8',
        '--set=lr=1e-3', '--sweep', 'beta=1,3', '--sweep=hidden=8,16', '--out=x',
        '--jobs_per_device=2', '--modules=', '--goal=observe',
    )  # fmt: skip
    assert code == 0
    ((study, arguments),) = asked
    assert study == {
        'env': ['a', 'b'], 'agent': ['dtql', 'iql'], 'num_seeds': '3', 'alpha': '2',
        'expectile': '0.8', 'lr': '1e-3', 'modules': [], 'goal': 'observe',
        'sweep': {'beta': ['1', '3'], 'hidden': ['8', '16']},
    }  # fmt: skip
    assert arguments == {
        'out': 'x', 'launcher': 'local', 'retry_failed': False, 'dry_run': False,
        'jobs_per_device': '2',
    }  # fmt: skip


def test_main__flags_stand_above_the_file(asked, tmp_path):
    path = tmp_path / 'mine.toml'
    path.write_text(to_toml(FIELDS))
    assert run(f'--study={path}', '--beta=2', '--hidden=16', '--sweep=expectile=0.7,0.9') == 0
    ((study, arguments),) = asked
    assert (study['hidden'], study['agent'], study['beta']) == ('16', ['iql'], '2')
    assert study['sweep'] == {'beta': [1, 3], 'expectile': ['0.7', '0.9']}
    assert arguments['out'] == 'studies/mine'


def test_main__the_folder_alone_goes_on(asked):
    assert run('--out=x', '--retry_failed') == 0
    ((study, arguments),) = asked
    assert study is None
    assert arguments['retry_failed'] is True


@pytest.mark.parametrize(
    ('status', 'code'),
    [
        ({'state': 'done'}, 0),
        ({'state': 'waiting'}, 0),
        ({'state': 'done', 'reason': 'no lane has a score'}, 1),
        ({'state': 'failed'}, 1),
        ({'state': 'stopped'}, 1),
    ],
)
def test_main__the_exit_code_tells_of_the_jobs(status, code, asked):
    asked.result = [JobStatus(name='a', state='done'), JobStatus(name='b', **status)]
    assert run('--out=x') == code


@pytest.mark.parametrize(
    ('flags', 'code'), [('print', 0), ('slurm', 0), ('slurm --wait', 1), ('ray', 1)]
)
def test_main__who_does_not_wait_does_not_tell_of_the_jobs(flags, code, asked):
    asked.result = [JobStatus(name='a', state='stopped')]
    assert run('--out=x', *f'--launcher={flags}'.split()) == code


def test_main__a_stop_names_the_command_that_goes_on(monkeypatch, tmp_path, capsys):
    def stopped(*_, **__):
        raise StudyStopped(tmp_path, 15)

    monkeypatch.setattr(sweep_module, 'sweep', stopped)
    assert run('--out=x') == 143
    assert f'go on with dtql sweep --out={tmp_path}' in capsys.readouterr().err


MISTAKES = {
    'flag': (['--alhpa=1'], 'unknown flag --alhpa; nearest: --alpha'),
    'flag of another agent': (['--agent=bc', '--alpha=1'], 'unknown flag --alpha'),
    'agent': (['--agent=dqtl'], "unknown agent 'dqtl'"),
    'no values': (['--sweep=alpha'], '--sweep alpha: write --sweep name=value,value'),
    'no value': (['--sweep=alpha=1,'], '--sweep alpha=1,: write --sweep name=value,value'),
    'twice': (['--sweep=alpha=1', '--sweep=alpha=2'], '--sweep alpha is given twice'),
    'set twice': (['--alpha=1', '--set=alpha=2'], '--alpha is given twice'),
    'no file': (['--study=none.toml'], 'none.toml cannot be read'),
    'module': (['--modules=none.py'], '--modules=none.py: there is no such file'),
    'no folder': (['--num_seeds=2'], '--out is missing'),
    'no folder of status': (['--status'], '--out is missing'),
    'status of no study': (['--status', '--out=none'], 'none is no folder of a study'),
    'launcher': (['--launcher=cloud', '--out=x'], '--launcher=cloud: must be one of local'),
    'option': (['--jobs_per_device=0', '--out=x'], '--jobs_per_device=0: must be at least 1'),
    'swept seeds': (['--sweep=num_seeds=1,2', '--out=x'], 'num_seeds cannot be swept'),
    'swept value': (['--sweep=alpha=1,much', '--out=x'], '--alpha=much: not a finite number'),
    'swept name': (['--sweep=alhpa=1,2', '--out=x'], "unknown setting 'alhpa'; nearest: alpha"),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_main__a_mistake_is_one_line_and_exit_code_2(name, capsys, here):
    flags, message = MISTAKES[name]
    assert message in refused(capsys, sweep.main, *flags)
    assert not list(here.iterdir())


def test_main__help_has_the_settings_of_all_agents(capsys):
    assert run('--help', '--agent=bc,iql') == 0
    page = capsys.readouterr().out
    for text in ('Settings of bc', 'Settings of iql', '--expectile', 'How jobs are started'):
        assert text in page


def test_train__a_sweep_of_a_float_setting_is_lanes(here, no_training, capsys):
    flags = ['--agent=iql', '--hidden=8', '--batch_size=8', '--num_seeds=2', '--clone_seeds=0']
    grid = ['--sweep', 'beta=1,3', '--sweep', 'expectile=0.7']
    assert train.main(['dtql train', f'--env={ENV}', '--out=x', *flags, *grid]) == 0
    ((trainer, _),) = no_training
    assert [(lane.variant, lane.seed) for lane in trainer.engine.lanes] == [
        (f'beta={beta} expectile=0.7', seed) for beta in (1, 3) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--sweep=hidden=8,16', 'hidden is the same for all lanes of a run: `dtql sweep` starts'),
        ('--sweep=alhpa=1', "unknown setting 'alhpa'; nearest: alpha"),
        ('--sweep=alpha=1,1.0', 'alpha: 1.0 stands there twice'),
        ('--sweep=alpha', '--sweep alpha: write --sweep name=value,value'),
    ],
)
def test_train__what_cannot_be_lanes_is_one_line(flag, message, capsys, here):
    assert message in refused(capsys, train.main, f'--env={ENV}', flag)


def test_train__a_resumed_run_keeps_its_lanes(capsys, cloned):
    error = refused(capsys, train.main, '--resume', f'--out={cloned}', '--sweep=lr=0.1,0.2')
    assert error == '--sweep: a run that is resumed keeps its lanes; leave it out'
