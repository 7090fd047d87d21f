"""The folder of a run, made and read back."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

import dtql_jax
from dtql_jax.runs import folder
from dtql_jax.runs.config_file import FORMAT
from dtql_jax.runs.plan import Request, make_plan, make_request
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions
from tests.helpers.small_runs import ENV


def record(plan, run_dir):
    """A run folder of the plan, and its `config.json`."""
    request = dataclasses.asdict(plan.request)
    description = {'format': FORMAT, 'request': request, 'identity': plan.identity()}
    folder.create_run(run_dir, description)
    return folder.read_run(run_dir)


@pytest.fixture
def repository(tmp_path):
    """Runs git in a new repository."""

    def git(*command):
        who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        done = subprocess.run(
            ['git', *who, *command], cwd=tmp_path, check=True, text=True, stdout=-1
        )
        return done.stdout.strip()

    git('init', '-q')
    return git


def test_commit__of_the_checkout_and_not_of_one_around_it(repository, tmp_path, monkeypatch):
    code = tmp_path / 'folder.py'
    code.write_text('one\n')
    monkeypatch.setattr(folder, '__file__', str(code))
    find = folder.commit.__wrapped__
    (tmp_path / 'other.txt').write_text('something\n')
    repository('add', 'other.txt')
    repository('commit', '-qm', 'other')
    assert find() is None  # as in a `.venv` inside a repository of somebody else
    repository('add', 'folder.py')
    repository('commit', '-qm', 'code')
    head = repository('rev-parse', 'HEAD')
    assert find() == head
    code.write_text('two\n')
    assert find() == f'{head} with changes'


def test_commit__of_an_installed_package_and_without_git(monkeypatch):
    class Distribution:
        def read_text(self, name):
            assert name == 'direct_url.json'
            return json.dumps({'url': 'git', 'vcs_info': {'vcs': 'git', 'commit_id': 'abc'}})

    monkeypatch.setenv('PATH', '')
    assert folder.commit.__wrapped__() is None
    monkeypatch.setattr(folder.metadata, 'distribution', lambda name: Distribution())
    assert folder.commit.__wrapped__() == 'abc'


@pytest.mark.parametrize('name', ['pointmaze-umaze', 'antmaze-large-diverse', 'hopper-medium', ENV])
def test_task_of_run__is_the_task_that_was_recorded(name):
    settings = {'goal': 'observe', 'success_ends': 'no'} if 'maze' in name else {}
    asked = make_plan(Request(env=name, settings=settings))
    recorded = json.loads(
        json.dumps({'identity': asked.identity(), 'request': {'dataset_path': None}})
    )
    assert folder.task_of_run(recorded) == asked.task
    recorded['request']['dataset_path'] = 'folder'
    given = folder.task_of_run(recorded)
    assert (given.datasets, given.source) == (('folder',), 'given')


def test_request_of_run__comes_back_from_the_run_folder(tmp_path):
    asked = make_plan(
        make_request({
            'env': 'antmaze-umaze', 'steps': 9, 'seed': 3, 'eval_envs': 2,
            'settings': {'alpha': '0.5', 'goal': 'observe'}, 'variants': {'x': {'tau': '0.1'}},
        })
    )  # fmt: skip
    recorded = record(asked, tmp_path / 'run')
    again = folder.request_of_run(recorded, {})
    assert make_plan(again).identity() == asked.identity()
    assert again.settings == {**dataclasses.asdict(asked.config), 'goal': 'observe'}
    assert dataclasses.replace(again, settings=asked.request.settings) == asked.request


def test_request_of_run__what_is_asked_for_now_wins(tmp_path):
    asked = {'env': 'antmaze-umaze', 'agent': 'dtql', 'seed': 3, 'eval_envs': 2}
    plan = make_plan(make_request({**asked, 'alpha': 0.5}))
    recorded = record(plan, tmp_path / 'run')
    for change in ({'alpha': 2.0}, {'settings': {'alpha': 2.0}}, Request(settings={'alpha': 2.0})):
        more = make_plan(folder.request_of_run(recorded, change))
        with pytest.raises(UserError) as error:
            folder.check_same(more.identity(), recorded['identity'], Path('x'))
        assert str(error.value) == (
            'x cannot be resumed with these settings: config.alpha: the run has 0.5, asked for '
            '2.0. Leave out what differs, or start a new run in another folder with `out`'
        )
    # A dict asks for all that it names, a `Request` for what differs from the defaults.
    assert folder.request_of_run(recorded, {'seed': 0}).seed == 0
    assert folder.request_of_run(recorded, Request(seed=0)).seed == 3
    faster = folder.request_of_run(recorded, {'eval_envs': 5, 'overlap': True})
    assert (faster.eval_envs, faster.overlap, faster.seed) == (5, True, 3)
    assert make_plan(faster).identity() == recorded['identity']
    with pytest.raises(UserError, match='`alpha` is given twice'):
        folder.request_of_run(recorded, {'alpha': 1, 'settings': {'alpha': 1}})


def test_read_run__refuses_what_is_no_run(tmp_path):
    for nowhere in (tmp_path / 'nowhere', Path(__file__)):
        with pytest.raises(UserError, match=r'is no run folder \(no config.json\)'):
            folder.read_run(nowhere)
    record(make_plan(Request(env=ENV)), tmp_path / 'run')
    (tmp_path / 'run' / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'config\.json is damaged: JSONDecodeError') as error:
        folder.read_run(tmp_path / 'run')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('description', 'found'),
    [({'identity': {'config.alpha': 1.0}}, 1), ({'format': 2}, 2), ([], None)],
)
def test_read_run__refuses_the_format_of_another_version_in_one_line(
    description, found, tmp_path, monkeypatch
):
    """The first has the flat identity of runs before format 2."""
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'config.json').write_text(json.dumps(description))
    monkeypatch.chdir(tmp_path)
    message = (
        f'old/config.json has format {found}, and this version of dtql_jax reads format 3 only: '
        'train again, or use the version that made the run'
    )
    for read in (
        lambda: dtql_jax.load_policy('old'),
        lambda: dtql_jax.run({}, out='old', resume=True),
        lambda: folder.read_run(Path('old')),
    ):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value).endswith(message)


def test_create_run__makes_all_of_it_or_nothing(tmp_path):
    folder.create_run(tmp_path / 'a' / 'run', {'format': 3})
    assert folder.read_run(tmp_path / 'a' / 'run') == {'format': 3}
    with pytest.raises(UserError, match='exists and is never overwritten: add `resume`'):
        folder.create_run(tmp_path / 'a' / 'run', {'format': 3})
    with pytest.raises(UserError, match='cannot be made in'):
        folder.create_run(tmp_path / 'a' / 'run' / 'config.json' / 'x', {})
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['run']


def test_check_same__names_every_field_that_differs():
    run_dir = Path('x')
    folder.check_same({'a': {'b': 1}, 'c': []}, {'a': {'b': 1}, 'c': []}, run_dir)
    with pytest.raises(UserError) as error:
        folder.check_same({'a': {'b': 1, 'new': 2}, 'c': 3}, {'a': {'b': 2}, 'c': 3}, run_dir)
    assert 'a.b: the run has 2, asked for 1; a.new: the run has None, asked for 2' in str(
        error.value
    )
    assert 'c:' not in str(error.value)


def test_versions__are_those_of_python_and_the_packages():
    assert folder.versions().keys() == {'python', *folder.PACKAGES}


def test_check_new__tries_what_the_system_lets_it_do(tmp_path):
    (tmp_path / 'locked').mkdir(mode=0o500)
    with obeying_permissions(), pytest.raises(UserError, match=r'cannot be made in .*Permission'):
        folder.check_new(tmp_path / 'locked' / 'x')
    folder.check_new(tmp_path / 'x')
    assert [path.name for path in tmp_path.iterdir()] == ['locked']


def test_check_settings__names_one_that_the_agent_lacks_and_the_cure():
    recorded = {
        'request': {'agent': 'dtql'},
        'identity': {'config': {'alpha': 1.0, 'beta': 2}},
        'commit': 'abc123',
    }
    with pytest.raises(UserError) as error:
        folder.check_settings(recorded)
    assert str(error.value) == (
        'the run has the setting beta, which dtql lacks by now: use the version that made the run '
        '(commit abc123)'
    )
    del recorded['identity']['config']['beta']
    folder.check_settings(recorded)
