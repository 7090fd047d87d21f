"""Whole runs by the command: what other programs, people and disks do to a run folder."""

import json
import os
import shutil

import pytest

import dtql_jax
from dtql_jax.cli import evaluate, train
from dtql_jax.runs.folder import read_run
from dtql_jax.runs.lock import hold
from dtql_jax.training import loop
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions
from tests.helpers.small_runs import CLONING, ENV, FLAGS, refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'quick_collect', 'no_workers')


@pytest.fixture
def run(cloned, here):
    """A copy of a finished run, in the working directory."""
    return shutil.copytree(cloned, here / 'x').relative_to(here)


@pytest.fixture
def no_updates(monkeypatch):
    """A resume must be refused before it comes to its updates."""
    monkeypatch.setattr(loop.Trainer, 'run_phase', lambda *_: pytest.fail('it trained'))


def here_shown(text):
    """A text without the working directory in its paths."""
    return text.replace(f'{os.getcwd()}/', '')


def resume(capsys, run):
    return here_shown(refused(capsys, train.main, f'--out={run}', '--resume'))


def reevaluate(capsys, run):
    return here_shown(refused(capsys, evaluate.main, f'--run={run}', '--episodes=1'))


def edit(run, change):
    """Changes what `config.json` says."""
    path = run / 'config.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# config.json.


def wider(content):
    content['identity']['task']['score_range'] = [0.0, 1e6]


def another_seed(content):
    content['identity']['lanes'][0]['seed'] = 7
    content['request']['seed'] = 7


def another_discount(content):
    content['identity']['config']['discount'] = 0.5


def behaviour(content):
    content['data']['score'] = 99.0


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (wider, 'identity.task.score_range is [0.0, 1000000.0], and the run has '),
        (another_seed, 'request.seed is 7, and the run has 0'),
        (another_discount, 'identity.config.discount is 0.5, and the run has 0.99'),
        (behaviour, 'data.score is 99.0, and the run has '),
        (lambda content: content.clear(), 'has format 1'),
        (lambda content: content.pop('identity'), 'identity.agent is missing, and the run has'),
        (lambda content: content['identity'].update(task=None), 'identity.task is null'),
        (lambda content: content.pop('sha256'), 'was edited or is damaged'),
    ],
)
def test_read_run__an_edited_config_is_refused_by_all_who_read_it(
    run, capsys, no_updates, change, named
):
    whole = (run / 'config.json').read_bytes()
    edit(run, change)
    for text in (resume(capsys, run), reevaluate(capsys, run)):
        assert text.startswith('x/config.json ')
        assert named in text
    with pytest.raises(UserError) as error:
        dtql_jax.load_policy(run)
    assert named in str(error.value)
    (run / 'config.json').write_bytes(whole)
    assert read_run(run)['data']


def test_read_run__the_same_content_in_another_layout_is_the_same(run):
    path = run / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=8))
    assert read_run(run)['data']


@pytest.mark.parametrize('content', ['null', '[]', '7', '{"format": 3}', '{', '', '[' * 5000, None])
def test_read_run__anything_of_that_name_is_one_line(run, capsys, no_updates, content):
    path = run / 'config.json'
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)
    for text in (resume(capsys, run), reevaluate(capsys, run)):
        assert text.startswith('x/config.json ')
        assert any(word in text for word in ('restore', 'train again', 'put back'))
    shutil.rmtree(run / 'checkpoints')  # nothing that it could be compared with
    assert 'x/config.json' in resume(capsys, run)


def test_read_run__the_config_of_another_run_is_refused(run, capsys, monkeypatch):
    """Its own seal is whole."""
    other = run.parent / 'y'
    flags = [f'--env={ENV}', '--num_seeds=3', '--steps=1', '--eval_episodes=1', f'--out={other}']
    monkeypatch.setattr(loop.Trainer, 'run', lambda *_: pytest.fail('stop here'))
    with pytest.raises(pytest.fail.Exception):
        train.main(['dtql train', *flags, *CLONING])
    shutil.copy(other / 'config.json', run / 'config.json')
    assert 'was edited: ' in reevaluate(capsys, run)


# The folder.


def test_run__a_second_one_in_the_folder_says_who_holds_it(run, capsys, no_updates):
    before = (run / 'metrics.jsonl').read_bytes()
    with hold(run, pytest.fail):
        assert 'x is in use by process ' in resume(capsys, run)
        assert evaluate.main(['dtql evaluate', f'--run={run}', '--episodes=1']) == 0
        dtql_jax.load_policy(run)
        assert train.main(['dtql train', f'--out={run}', '--resume', '--dry_run']) == 0
    assert (run / 'metrics.jsonl').read_bytes() == before


def test_run__lost_checkpoints_are_refused_before_the_data_are_read(run, capsys, monkeypatch):
    shutil.move(run / 'checkpoints', 'elsewhere')
    before = (run / 'metrics.jsonl').read_bytes()
    monkeypatch.setattr('dtql_jax.runs.run.load', lambda *_, **__: pytest.fail('it read data'))
    assert 'metrics.jsonl has rows, but x/checkpoints has no checkpoint' in resume(capsys, run)
    assert (run / 'metrics.jsonl').read_bytes() == before


def test_run__a_changed_digit_in_a_log_is_refused(run, capsys, no_updates):
    path = run / 'eval.jsonl'
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"eval/score":', b'"eval/score":1', 1))
    assert 'x/eval.jsonl' in resume(capsys, run)
    path.write_bytes(whole[:-20])
    assert 'x/eval.jsonl has' in resume(capsys, run)
    path.write_bytes(whole)


def test_run__damage_to_both_checkpoints_is_one_line(run, capfd, no_updates):
    for path in run.glob('checkpoints/*/state/**/*'):
        if path.is_file():
            path.write_bytes(b'\0' * path.stat().st_size)
    assert train.main(['dtql train', f'--out={run}', '--resume']) == 2
    error = here_shown(capfd.readouterr().err)
    assert error.startswith('error: x/checkpoints: no checkpoint can be restored')
    assert error.count('\n') == 1
    assert evaluate.main(['dtql evaluate', f'--run={run}']) == 2
    lines = here_shown(capfd.readouterr().err).splitlines()
    assert lines[-1].startswith('error: x/checkpoints: no checkpoint can be restored')
    assert all('is damaged' in line for line in lines[:-1])


@pytest.mark.slow
def test_report__a_file_that_cannot_be_written_is_one_line_and_a_resume_writes_it(run, capsys):
    names = ('table.txt', 'curves.png')
    for name in names:
        (run / name).unlink()
        (run / name).mkdir()
    for name in names:
        text = resume(capsys, run)
        assert f'x/{name}' in text
        assert '--resume' in text
        (run / name).rmdir()
    assert train.main(['dtql train', f'--out={run}', '--resume']) == 0
    assert all((run / name).is_file() for name in names)


def test_run__in_a_read_only_folder_is_one_line_and_can_be_evaluated(run, capsys, no_updates):
    paths = [run, *run.rglob('*')]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with obeying_permissions():
            assert 'x cannot be written: Permission denied' in resume(capsys, run)
            dtql_jax.load_policy(run)
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
def test_run__in_a_working_directory_with_brackets(here, monkeypatch):
    (here / 'a[b]\\c').mkdir()
    monkeypatch.chdir(here / 'a[b]\\c')
    flags = [f'--env={ENV}', '--num_seeds=1', '--steps=3', '--eval_episodes=1', '--out=x']
    assert train.main(['dtql train', *flags, *FLAGS]) == 0
    dtql_jax.load_policy('x')
    assert train.main(['dtql train', '--out=x', '--resume']) == 0
