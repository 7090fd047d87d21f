"""What a run keeps in its folder, and accidents to it while the run is under way."""

import shutil

import numpy as np
import pytest

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.training import loop
from dtql_jax.training.progress import restore_progress
from dtql_jax.training.records import begun
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Stopped, UserError
from tests.helpers import toy_run


class Listener:
    """A callback that remembers what it is told, and fails where it is told to."""

    def __init__(self, fails_at=None):
        self.fails_at, self.rows, self.events = fails_at, [], []

    def __call__(self, event):
        if self.fails_at in (event.kind, len(self.rows)):
            raise ConnectionError('no route\nto host')
        self.rows += [(event.step, row['seed']) for row in event.rows]
        self.events.append(event)


def accident(engine, folder, step, happens, **options):
    """A run to which something happens at a step; the text of the line that ends it.

    Every step may save.
    """
    trainer = toy_run.trainer(folder, engine, **options)

    class Report(toy_run.Report):
        def progress(self, phase, at, total, rate):
            if at == step:
                happens()

    trainer.report = Report()
    with pytest.raises(UserError) as error:
        trainer.run()
    assert '\n' not in str(error.value)
    assert trainer.cursor.step < trainer.total
    return str(error.value)


@pytest.fixture
def often(monkeypatch):
    """Every update is a dispatch and is followed by a save."""
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 0.0)
    monkeypatch.setattr(loop, 'SAVE_SECONDS', -1.0)


def ends_well(engine, folder, whole):
    """The run goes on to the end of an undisturbed one, where it saves."""
    trainer = toy_run.trainer(folder, engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, 'SAVE_SECONDS', 1e9)
        toy_run.assert_same_run(folder, trainer, trainer.run(resume=True), whole)


# Logs and checkpoints.


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('name', ['metrics', 'eval'])
def test_save__a_log_that_was_removed_stops_the_run_and_comes_back(engine, whole, tmp_path, name):
    path = tmp_path / f'{name}.jsonl'
    text = accident(engine, tmp_path, 12, path.unlink)
    assert text.startswith(f'{path} was removed while the run wrote to it')
    ends_well(engine, tmp_path, whole)


@pytest.mark.usefixtures('often')
def test_save__a_run_folder_that_was_removed_stops_the_run(engine, tmp_path):
    folder = tmp_path / 'run'
    text = accident(engine, folder, 12, lambda: shutil.rmtree(folder))
    assert str(folder) in text
    assert not folder.exists()


@pytest.mark.usefixtures('often')
def test_save__a_run_folder_that_was_moved_can_be_continued_there(engine, whole, tmp_path):
    folder, other = tmp_path / 'run', tmp_path / 'other'
    accident(engine, folder, 12, lambda: folder.rename(other))
    assert not folder.exists()
    ends_well(engine, other, whole)


@pytest.mark.usefixtures('often')
def test_save__checkpoints_that_were_removed_are_made_again(engine, whole, tmp_path):
    trainer = toy_run.trainer(tmp_path, engine)
    trainer.report = Removes(tmp_path / 'checkpoints')
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(), whole)
    assert begun(tmp_path)


class Removes(toy_run.Report):
    """Removes a folder at step 12."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def progress(self, phase, step, total, rate):
        if step == 12:
            shutil.rmtree(self.folder)


def test_save__only_the_first_of_a_process_is_read_back(engine, tmp_path, monkeypatch):
    verified = []
    monkeypatch.setattr(
        'dtql_jax.training.checkpoint.verify', lambda folder, tree: verified.append(folder)
    )
    toy_run.trainer(tmp_path, engine).run()
    assert verified == [tmp_path / 'checkpoints']
    toy_run.trainer(tmp_path, engine).run(resume=True)
    assert len(verified) == 2


def test_save__one_that_cannot_be_read_back_ends_the_run_before_it_trains(
    engine, tmp_path, monkeypatch
):
    def refuse(folder, tree):
        raise UserError('no')

    monkeypatch.setattr('dtql_jax.training.checkpoint.verify', refuse)
    trainer = toy_run.trainer(tmp_path, engine)
    with pytest.raises(UserError, match=r'^no$'):
        trainer.run()
    assert trainer.cursor.step == 0


@pytest.mark.slow
@pytest.mark.usefixtures('often')
def test_open__after_damage_to_the_newest_checkpoint_the_logs_are_cut_to_the_one_before(
    engine, whole, tmp_path
):
    toy_run.stopped_at_each((13,), tmp_path, engine)
    newest = max(tmp_path.glob('checkpoints/*'), key=lambda path: int(path.name))
    for path in newest.rglob('*'):
        if path.is_file():
            path.write_bytes(b'')
    trainer = toy_run.trainer(tmp_path, engine)
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(resume=True), whole)
    assert len(trainer.report.warnings) == 1
    assert f'checkpoint {newest.name} in ' in trainer.report.warnings[0]


@pytest.mark.parametrize('path', ['run[1]', 'a\\b', '[x]/y'])
def test_run__in_a_folder_with_brackets_ends_and_is_read_back(engine, whole, tmp_path, path):
    folder = tmp_path / path
    folder.parent.mkdir(exist_ok=True)
    trainer = toy_run.trainer(folder, engine)
    toy_run.assert_same_run(folder, trainer, trainer.run(), whole)
    restored, cursor = restore_progress(engine, folder, pytest.fail)
    assert cursor.step == 18
    assert restored.best_step.tolist() == whole[2].best_step.tolist()
    ends_well(engine, folder, whole)


@pytest.mark.parametrize('lose', ['folder', 'content', 'a file instead'])
def test_begun__rows_without_checkpoints_are_never_cut_away(engine, tmp_path, lose):
    toy_run.trainer(tmp_path, engine).run()
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    shutil.move(tmp_path / 'checkpoints', tmp_path / 'elsewhere')
    if lose == 'content':
        (tmp_path / 'checkpoints').mkdir()
    elif lose == 'a file instead':
        (tmp_path / 'checkpoints').write_text('')
    with pytest.raises(UserError, match=r'has rows, but .* has no checkpoint') as error:
        toy_run.trainer(tmp_path, engine, pytest.fail).run(resume=True)
    assert '\n' not in str(error.value)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('name', ['metrics', 'eval'])
def test_open__a_changed_digit_is_found_before_anything_is_compiled(engine, whole, tmp_path, name):
    toy_run.stopped_at_each((13,), tmp_path / 'other', engine)
    folder = tmp_path / 'run'
    shutil.copytree(tmp_path / 'other', folder)
    path = folder / f'{name}.jsonl'
    whole_text = path.read_bytes()
    digit = whole_text.index(b'"seed":1')
    path.write_bytes(whole_text[: digit + 7] + b'2' + whole_text[digit + 8 :])
    trainer = toy_run.trainer(folder, engine, pytest.fail)
    trainer.engine = never_compiling(engine)
    with pytest.raises(UserError, match=rf'{name}\.jsonl was edited'):
        trainer.run(resume=True)
    path.write_bytes(whole_text)
    ends_well(engine, folder, whole)


def never_compiling(engine):
    """The engine, which must not compile."""

    class Engine:
        def __getattr__(self, name):
            assert name != 'compile', 'compiled before the logs were checked'
            return getattr(engine, name)

    return Engine()


# Callbacks.


@pytest.mark.parametrize('fails_at', [0, 6])
def test_write__a_callback_that_fails_is_dropped_and_the_run_goes_on(
    engine, whole, tmp_path, fails_at
):
    broken, good = Listener(fails_at), Listener()
    trainer = toy_run.trainer(tmp_path, engine, callbacks=(broken, good))
    toy_run.assert_same_run(tmp_path, trainer, trainer.run(), whole)
    assert len(broken.rows) == fails_at
    assert len(good.rows) == 3 * (5 + 3)
    assert trainer.report.warnings == [
        'Listener failed (ConnectionError: no route to host): the run goes on without it; '
        f'{tmp_path} has all rows'
    ]


def test_write__tells_of_the_rows_of_the_logs_and_the_state_of_all_lanes(engine, tmp_path):
    states = []

    def reads(event):
        states.append((event.kind, np.asarray(event.state.step).tolist()))

    listener = Listener()
    toy_run.trainer(tmp_path, engine, callbacks=(listener, reads)).run()
    for kind, log in (('log', 'metrics'), ('evaluation', 'eval')):
        told = [row for event in listener.events if event.kind == kind for row in event.rows]
        assert told == read_jsonl(tmp_path / f'{log}.jsonl')
    assert {kind for kind, _ in states} == {'log', 'evaluation', 'end'}
    for event, (kind, at) in zip(listener.events, states, strict=True):
        assert (event.kind, [event.step] * 3) == (kind, at)
        assert event.lanes == engine.lanes
        assert event.agent is engine.agent
        assert event.run_dir == tmp_path
    assert [event.kind for event in listener.events].count('end') == 1


@pytest.mark.usefixtures('often')
def test_end__comes_once_and_without_a_state_where_the_run_was_stopped(engine, tmp_path):
    listener, stop = Listener(), StopFlag()
    trainer = toy_run.trainer(tmp_path, engine, stop=stop, callbacks=(listener,))
    trainer.report = toy_run.StopsAt(stop, 12)
    with pytest.raises(Stopped):
        trainer.run()
    trainer.records.end()
    trainer.records.end()
    assert listener.events[-1].kind == 'end'
    assert [event.step for event in listener.events if event.state is None] == [12]


def test_end__before_the_logs_are_open_a_callback_that_fails_is_a_warning(engine, tmp_path):
    first, last = Listener('end'), Listener()
    trainer = toy_run.trainer(tmp_path, engine, callbacks=(first, last))
    trainer.records.end()
    (event,) = last.events
    assert (event.kind, event.lanes, event.agent) == ('end', engine.lanes, engine.agent)
    assert len(trainer.report.warnings) == 1
    assert 'Listener failed (ConnectionError: no route to host)' in trainer.report.warnings[0]
