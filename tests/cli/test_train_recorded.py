"""`dtql train` on sets that other people recorded: refused in one line, or trained and said."""

import fcntl
import functools

import pytest
from gymnasium import wrappers

from dtql_jax.cli import train
from dtql_jax.runs.folder import read_run
from tests.helpers import recorded_sets as sets
from tests.helpers.small_runs import FLAGS, refused

FEW = ['--steps=2', '--eval_every=2', '--eval_episodes=2', '--num_seeds=1', *FLAGS]
pytestmark = pytest.mark.usefixtures('quick_compile', 'here')


@pytest.fixture(autouse=True)
def root(here, monkeypatch):
    """An empty Minari root with a blank in its path, in the working directory."""
    (here / 'my sets').mkdir()
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(here / 'my sets'))
    return here / 'my sets'


def test_main__a_set_recorded_through_a_state_is_refused_before_anything_is_compiled(
    capsys, compiled, here
):
    sets.record(wrappers.NormalizeObservation)
    text = refused(capsys, train.main, f'--env=minari:{sets.NAME}', '--out=run', *FEW)
    assert 'was recorded through NormalizeObservation' in text
    assert not compiled
    assert not (here / 'run').exists()


def test_main__a_set_that_another_process_writes_is_refused(capsys, root):
    sets.record()
    with open(root / sets.NAME / 'data/main_data.hdf5', 'rb') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = refused(capsys, train.main, f'--env=minari:{sets.NAME}', '--out=run', *FEW)
    assert text.endswith('wait for that process to end')


@pytest.mark.slow
def test_main__a_folder_with_a_blank_is_trained_on_and_resumed_from_elsewhere(
    capsys, here, monkeypatch
):
    rescale = functools.partial(wrappers.RescaleAction, min_action=-1, max_action=1)
    sets.record(rescale, wrappers.NormalizeReward, wrappers.RecordEpisodeStatistics)
    env = f'--env=minari:my sets/{sets.NAME}'
    assert train.main(['dtql train', env, f'--out={here / "run"}', *FEW]) == 0
    assert 'played without NormalizeReward, RecordEpisodeStatistics' in capsys.readouterr().out
    assert read_run(here / 'run')['request']['env'] == f'minari:{here}/my sets/{sets.NAME}'
    monkeypatch.chdir('/')
    again = [f'--out={here / "run"}', '--resume', *FEW]
    assert train.main(['dtql train', *again]) == 0
