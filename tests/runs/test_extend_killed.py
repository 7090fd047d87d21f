"""The end of the process while a run is extended: it leaves the old or the new request, whole."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import dtql_jax
from dtql_jax.cli import train
from dtql_jax.runs.policy import Run
from dtql_jax.training import loop
from tests.helpers.compiling import quick_environment
from tests.helpers.extended import CLONED, assert_extended
from tests.helpers.small_runs import ROOT, refused

pytestmark = [pytest.mark.usefixtures('quick_compile', 'here'), pytest.mark.slow]

LONG = {**CLONED, 'num_seeds': 1, 'eval_episodes': 1, 'eval_every': 100}


@pytest.fixture(scope='module')
def whole(cloned, minari_root, tmp_path_factory, quick_compile):
    """A run that was asked for 8 updates at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(minari_root))
        folder = tmp_path_factory.mktemp('whole') / 'run'
        return dtql_jax.run({**CLONED, 'steps': 8}, out=folder).run_dir


class Killed(BaseException):
    """The end of the process, which nothing catches."""


def kill(*_, **__):
    raise Killed


@pytest.mark.parametrize(
    ('name', 'owner', 'steps'),
    [
        ('replace', pathlib.Path, 5),  # before the new config.json is there
        ('run', loop.Trainer, 8),  # after it, and before a checkpoint repeats it
        ('run_phase', loop.Trainer, 8),
        ('end_evaluation', loop.Trainer, 8),
    ],
)
def test_run__a_process_that_ends_while_it_extends_leaves_the_old_or_the_new_request(
    cloned, whole, here, monkeypatch, name, owner, steps
):
    shutil.copytree(cloned, 'x')
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(Killed):
            dtql_jax.run({'steps': 8}, out='x', resume=True)
    assert Run('x').agent.config.steps == steps
    assert (here / 'x/.config.json.new').exists() == (owner is pathlib.Path)
    dtql_jax.run({}, out='x', resume=True)
    assert_extended(here / 'x', whole if steps == 8 else cloned)


def test_run__is_asked_for_more_again_before_the_first_was_saved(cloned, whole, here, monkeypatch):
    shutil.copytree(cloned, 'x')
    for steps in (7, 8):
        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, 'run', kill)
            with pytest.raises(Killed):
                dtql_jax.run({'steps': steps}, out='x', resume=True)
    dtql_jax.run({}, out='x', resume=True)
    assert_extended(here / 'x', whole)
    assert [e['changed']['steps'] for e in Run('x').description['extended']] == [[5, 7], [7, 8]]


def test_read_run__an_edit_of_an_extended_run_is_refused(cloned, here, monkeypatch, capsys):
    shutil.copytree(cloned, 'x')
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, 'run', kill)
        with pytest.raises(Killed):
            dtql_jax.run({'steps': 8}, out='x', resume=True)
    path = here / 'x/config.json'
    edits = {'"steps": 8': '"steps": 9', '"extended"': '"forgotten"', 'score': 'scores'}
    for old, new in edits.items():
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        assert 'config.json was edited' in refused(capsys, train.main, '--out=x', '--resume')
        path.write_text(text)
    dtql_jax.run({}, out='x', resume=True)


# Real processes.


def asked(run_dir):
    """What the run's file asks for, at any moment."""
    return Run(run_dir).agent.config.steps


def start(run_dir, steps):
    """A process that asks a run for more steps."""
    code = f"import dtql_jax; dtql_jax.run({{'steps': {steps}}}, out={str(run_dir)!r}, resume=True)"
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **quick_environment()}
    return subprocess.Popen([sys.executable, '-c', code], env=environment)


def test_run__killed_again_and_again_while_it_is_asked_for_more(here):
    """Each process asks for more, and is killed when the file changes or a save is under way."""
    dtql_jax.run({**LONG, 'steps': 100}, out='x')
    dtql_jax.run({**LONG, 'steps': 300}, out='whole')
    config = here / 'x/config.json'
    moments = (
        lambda: (here / 'x/.config.json.new').exists() or b'"steps": 200' in config.read_bytes(),
        lambda: b'"steps": 250' in config.read_bytes(),
        lambda: any('tmp' in path.name for path in (here / 'x/checkpoints').iterdir()),
    )
    for steps, moment in zip((200, 250, 300), moments, strict=True):
        process = start(here / 'x', steps)
        end = time.monotonic() + 300
        while not moment() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert asked('x') <= steps
    assert start(here / 'x', 300).wait(300) == 0
    assert_extended(here / 'x', here / 'whole')
