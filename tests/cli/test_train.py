"""`dtql train`: what it refuses, its flags and its exit codes."""

import os
import signal
import sys

import pytest

from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.settings import kinds
from dtql_jax.cli import train
from dtql_jax.cli.flags import WIDTH
from dtql_jax.runs import run as run_module
from dtql_jax.runs.folder import read_run
from dtql_jax.training import loop
from dtql_jax.types import Stopped, UserError
from tests.helpers.small_runs import CLONING, ENV, ROOT, process, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')

MISTAKES = {
    'task': (['--env=hoper-medium'], "unknown task 'hoper-medium'; nearest: hopper-medium"),
    'source': (['--source=gym'], '--source=gym: must be one of minari, d4rl, ogbench, made'),
    'replay': (
        ['--env=hopper-medium-replay', '--source=minari'],
        'hopper-medium-replay does not come from minari: there is --source=d4rl',
    ),
    'no dataset': (['--env=minari:test/none-v0'], 'dataset test/none-v0 is not in'),
    'agent': (['--agent=dqtl'], "unknown agent 'dqtl'; nearest: idql, dtql"),
    'agent module': (['--agent=nowhere:Mine'], "there is no module 'nowhere'"),
    'agent file': (['--agent=nowhere.py:Mine'], 'nowhere.py, which '),
    'agent class': (['--agent=json:Mine'], "json has no subclass of dtql_jax.Agent 'Mine'"),
    'setting': (['--set', 'alhpa=1'], "unknown setting 'alhpa'; nearest: alpha"),
    'task setting': (['--set=gaol=observe'], "unknown setting 'gaol'; nearest: goal"),
    'request by set': (['--set=num_sedes=1'], "unknown setting 'num_sedes'; nearest: num_seeds"),
    'setting flag': (['--alhpa=1'], 'unknown flag --alhpa; nearest: --alpha'),
    'task flag': (['--gaol=observe'], 'unknown flag --gaol; nearest: --goal'),
    'whole setting': (['--set=hidden=2.5'], '--hidden=2.5: not a whole number'),
    'whole flag': (['--hidden=2.5'], '--hidden=2.5: not a whole number'),
    'float setting': (['--set=alpha=much'], '--alpha=much: not a finite number'),
    'float flag': (['--alpha=much'], '--alpha=much: not a finite number'),
    'infinite': (['--set=alpha=inf'], '--alpha=inf: not a finite number'),
    'nan': (['--set=alpha=nan'], '--alpha=nan: not a finite number'),
    'switch': (['--set=lr_decay=maybe'], '--lr_decay=maybe: not true or false'),
    'switch flag': (['--lr_decay=maybe'], '--lr_decay=maybe: not true or false'),
    'negated switch': (['--nolr_decay=1'], '--nolr_decay=1 does not take an argument'),
    'negative': (['--set=lr=-1'], '--lr=-1.0: must be at least 0'),
    'share': (['--set=expectile=7'], '--expectile=7.0: must be '),
    'width': (['--set=hidden=0'], '--hidden=0: must be at least 1'),
    'reward': (
        ['--set=reward=iql_ant'],
        "unknown reward transform 'iql_ant', nearest: iql_antmaze",
    ),
    'no equals': (['--set', 'alpha'], '--set alpha: write --set name=value'),
    'no name': (['--set', '=1'], '--set =1: write --set name=value'),
    'setting twice': (['--set=alpha=1', '--set=alpha=2'], '--set alpha is given twice'),
    'flag and setting': (
        ['--steps=5', '--set=steps=6'],
        '--steps is given twice: as a flag and as --set steps',
    ),
    'settings as a setting': (['--set=settings=1'], 'settings=1: give a dict'),
    'variants as a setting': (['--set=variants=1'], 'variants=1: give a dict'),
    'logs as a setting': (['--set=log_to=wandb'], '--log_to=wandb: give a list of names'),
    'goal of a maze only': (['--set=goal=observe'], "goal='observe' has no meaning here"),
    'goal': (
        ['--env=antmaze-umaze', '--set=goal=here'],
        '--goal=here: must be one of observe, relabel, recorded',
    ),
    'success': (
        ['--env=antmaze-umaze', '--set=success_ends=often'],
        '--success_ends=often: not true or false',
    ),
    'seeds': (['--num_seeds=0'], '--num_seeds=0: must be at least 1'),
    'seed': (['--seed=-1'], '--seed=-1: must be at least 0'),
    'large seed': ([f'--seed={2**32}'], 'the seeds must stay below 2^32'),
    'steps': (['--steps=0'], '--steps=0: must be at least 1'),
    'batch': (['--batch_size=0'], '--batch_size=0: must be at least 1'),
    'episodes': (['--eval_episodes=-1'], '--eval_episodes=-1: must be at least 0'),
    'simulators': (['--eval_envs=0'], '--eval_envs=0: must be at least 1'),
    'number': (['--steps=many'], '--steps=many: not a whole number'),
    'fraction': (['--steps=2.5'], '--steps=2.5: not a whole number'),
    'bool': (['--resume=maybe'], '--resume=maybe: not true or false'),
    'flag': (['--num_seed=3'], 'unknown flag --num_seed; nearest: --num_seeds'),
    'no value': (['--num_seeds'], 'Missing value for flag --num_seeds'),
    'no agent': (['--agent'], 'Missing value for flag --agent'),
    'word': (['hopper-medium'], "'hopper-medium' is no flag: flags begin with --"),
    'path': (['--dataset_path=nowhere'], 'nowhere is no Minari dataset'),
    'logger': (['--log_to=mlflow'], "unknown logger 'mlflow': choose from tensorboard, wandb"),
    'not a run': (['--resume', '--out=nowhere'], 'nowhere is no run folder'),
    'default run': (['--resume'], 'is no run folder (no config.json): check the path'),
    'a file as run': (['--resume', f'--out={__file__}'], 'is no run folder'),
    'in a file': ([f'--out={__file__}/run'], f'run cannot be made in {__file__}'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_main__a_mistake_is_one_line_and_exit_code_2_before_anything_is_compiled(
    name, capsys, compiled, here, monkeypatch
):
    monkeypatch.setattr('dtql_jax.data.minari._online', lambda: False)
    arguments, message = MISTAKES[name]
    if not any(argument.startswith('--env') for argument in arguments):
        arguments = [f'--env={ENV}', *arguments]
    assert message in refused(capsys, train.main, *arguments)
    assert not compiled
    assert not list(here.iterdir()), 'a mistake leaves no folder behind'


@pytest.mark.parametrize('package', ['wandb', 'tensorboard'])
def test_main__a_logger_that_is_not_installed_is_named_before_the_run_begins(
    package, capsys, here, monkeypatch
):
    for module in (package, f'{package}.summary'):
        monkeypatch.setitem(sys.modules, module, None)
    error = refused(capsys, train.main, f'--env={ENV}', f'--log_to={package}')
    assert error.startswith(f'logging to {package} needs the package {package}')
    assert f"pip install '{package}'" in error
    assert not list(here.iterdir())


def test_main__an_existing_folder_is_never_overwritten(capsys, here, compiled):
    (here / 'mine').mkdir()
    (here / 'mine' / 'letter.txt').write_text('dear')
    error = refused(capsys, train.main, f'--env={ENV}', '--out=mine')
    assert error.startswith(f'{here}/mine exists and is never overwritten: add --resume')
    assert (here / 'mine' / 'letter.txt').read_text() == 'dear'
    assert not compiled


def test_main__a_real_process_prints_one_line_and_no_more():
    result = process(ROOT / 'experiments' / 'run.py', '--env=hoper-medium')
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.startswith("error: unknown task 'hoper-medium'; nearest: hopper-medium")
    assert result.stderr.count('\n') == 1


# Flags.


@pytest.fixture
def asked(monkeypatch):
    """Replaces `run` by a record of its request."""
    requests = []
    monkeypatch.setattr(run_module, 'run', lambda request, **_: requests.append(request))
    return requests


def test_train__a_request_holds_what_was_given_and_nothing_else(asked):
    assert train.main(['dtql train', '--steps=3e5', '--num_seeds=4']) == 0
    assert asked == [{'steps': '3e5', 'num_seeds': '4'}]


def test_train__set_is_the_same_path_as_a_flag(asked):
    for flags in (
        ['--alpha=2', '--steps=3e5', '--nolr_decay', '--seed=3'],
        ['--set=alpha=2', '--set', 'steps=3e5', '--lr_decay=false', '--set=seed=3'],
    ):
        assert train.main(['dtql train', *flags]) == 0
    assert asked == [{'alpha': '2', 'steps': '3e5', 'lr_decay': 'false', 'seed': '3'}] * 2


@pytest.mark.parametrize('name', AGENTS)
def test_define__every_setting_of_the_agent_is_a_flag(name):
    values, sections = train.define(name)
    settings = kinds(AGENTS[name].agent.config_class)
    assert set(settings) <= set(values)
    (section,) = (names for title, names in sections.items() if f'of {name} ' in title)
    assert list(section) == list(settings)
    assert [flag for names in sections.values() for flag in names] == list(values)


@pytest.mark.parametrize('flag', ['--agent=idql', '-agent=idql'])
def test_agent_asked__is_the_value_of_the_flag_wherever_it_stands(flag):
    assert train.agent_asked(['x', flag]) == 'idql'
    assert train.agent_asked(['x', '--alpha', '2', 'word', flag, '--nolr_decay']) == 'idql'
    assert train.agent_asked(['x', '--agent', 'idql']) == 'idql'
    assert train.agent_asked(['x']) == 'dtql'
    assert train.agent_asked(['x', '--out=nowhere', '--noresume']) == 'dtql'


def test_agent_asked__is_that_of_a_run_that_is_resumed(here, no_training, capsys):
    """So that its settings are flags, without --agent."""
    flags = [f'--env={ENV}', '--agent=iql', '--hidden=8', '--batch_size=8', '--out=x']
    assert train.main(['dtql train', *flags]) == 0
    assert train.agent_asked(['x', '--out=x', '--resume']) == 'iql'
    temperature = read_run(here / 'x')['identity']['config']['expectile']
    again = ['--out=x', '--resume', f'--expectile={temperature}']
    assert train.main(['dtql train', *again]) == 0
    error = refused(capsys, train.main, '--out=x', '--resume', '--expectile=0.123')
    assert f'config.expectile: the run has {temperature}, asked for 0.123' in error
    error = refused(capsys, train.main, '--out=x', '--resume', '--agent=bc')
    assert "agent: the run has 'iql', asked for 'bc'" in error
    assert 'unknown flag --eta' in refused(capsys, train.main, '--out=x', '--resume', '--eta=1')


def test_main__a_run_of_an_earlier_version_is_refused(here, capsys):
    (here / 'old').mkdir()
    (here / 'old' / 'config.json').write_text('{"identity": {"config.alpha": 1.0}}')
    error = refused(capsys, train.main, '--out=old', '--resume')
    assert error.startswith('old/config.json has format 1, and this version of dtql_jax reads fo')


def test_main__help_is_a_page_of_sections(capsys):
    assert train.main(['dtql train', '--help']) == 0
    page = capsys.readouterr().out
    assert page.startswith(train.__doc__.strip())
    assert all(len(line) <= WIDTH for line in page.splitlines())
    for text in (
        '\nFlags:\n  --env=TEXT ',
        '\nSettings of a task:\n  --goal=TEXT ',
        '\nSettings of dtql (many tasks have defaults of their own):\n  --steps=N ',
        'number of updates in the last phase of training (default: 1,000,000)\n',
        ' data of your own\n                       (default: pointmaze-umaze)\n',
        '  --[no]lr_decay ',
        'LayerNorm after each hidden layer of Q (default: true)\n',
    ):
        assert text in page


def test_main__help_with_an_agent_lists_the_settings_of_that_agent(capsys):
    assert train.main(['dtql train', '--agent=idql', '-h']) == 0
    page = capsys.readouterr().out
    assert 'Settings of idql' in page
    assert '--eta' not in page
    assert "unknown agent 'iqdl'" in refused(capsys, train.main, '--help', '--agent=iqdl')


def test_main__list_is_that_of_dtql_list(capsys):
    from dtql_jax.cli.list import text

    assert train.main(['dtql train', '--list']) == 0
    assert capsys.readouterr().out == text() + '\n'


def test_parse_settings__splits_at_the_first_equals():
    assert train.parse_settings(['a=1', 'b=x=y', 'c=']) == {'a': '1', 'b': 'x=y', 'c': ''}
    with pytest.raises(UserError, match='--set a: write --set name=value'):
        train.parse_settings(['a'])


# Runs.


def test_train__writes_the_folder_and_says_where_and_what_next(trained):
    run_dir, output = trained
    for text in ('dataset card', 'updates/s', f'folder    {run_dir}', 'curves.png', 'load_policy('):
        assert text in output
    assert f'dtql evaluate --run={run_dir}' in output
    assert (run_dir / 'table.txt').read_text() in output


@pytest.mark.usefixtures('no_workers')
def test_train__a_finished_run_resumes_to_its_table(cloned, capsys):
    before = {name: (cloned / name).read_bytes() for name in ('eval.jsonl', 'metrics.jsonl')}
    assert train.main(['dtql train', f'--out={cloned}', '--resume']) == 0
    assert (cloned / 'table.txt').read_text() in capsys.readouterr().out
    for name, content in before.items():
        assert (cloned / name).read_bytes() == content


def test_train__a_resume_names_the_settings_that_differ(trained, capsys, compiled):
    error = refused(
        capsys, train.main, f'--out={trained[0]}', '--resume', '--steps=6', '--set=alpha=3'
    )
    assert 'config.alpha: the run has 1.0, asked for 3.0' in error
    assert 'steps' not in error  # which alone may differ
    assert error.endswith('start a new run in another folder with --out')
    assert not compiled


def test_train__a_dry_run_prints_the_plan_and_writes_nothing(capsys, here):
    flags = [f'--env={ENV}', '--dry_run', '--steps=3000', *CLONING]
    assert train.main(['dtql train', *flags]) == 0
    output = capsys.readouterr().out
    for word in ('dataset card', 'lanes', 'devices', 'memory', 'train 3,000 x 8', 'folder', 'time'):
        assert word in output
    assert not list(here.iterdir())


def test_train__a_run_without_a_checkpoint_starts_over(here, no_training, capsys):
    """It was killed between making its folder and the first save."""
    assert train.main(['dtql train', f'--env={ENV}', *CLONING, '--out=early']) == 0
    assert train.main(['dtql train', '--out=early', '--resume']) == 0
    assert [resume for _, resume in no_training] == [False, True]
    assert 'early has no checkpoint yet: starting from the beginning' in capsys.readouterr().out


def test_train__a_run_whose_seeds_all_diverged_fails(here, no_training, monkeypatch, capsys):
    def run(self, resume, networks):
        self.cursor.diverged = {str(i): 3 for i in range(len(self.engine.lanes))}

    monkeypatch.setattr(loop.Trainer, 'run', run)
    assert train.main(['dtql train', f'--env={ENV}', *CLONING, '--out=lost']) == 1
    assert 'bc seed 0: diverged at update 3' in capsys.readouterr().out


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train__a_signal_is_told_by_the_exit_code(number, code, no_training, monkeypatch, capsys):
    def run(self, resume, networks):
        os.kill(os.getpid(), number)
        assert self.stop()
        raise Stopped

    monkeypatch.setattr(loop.Trainer, 'run', run)
    assert train.main(['dtql train', f'--env={ENV}', *CLONING, '--out=x']) == code
    assert capsys.readouterr().err == (
        f'stopped, before its first checkpoint: continue with --out={os.getcwd()}/x --resume\n'
    )
