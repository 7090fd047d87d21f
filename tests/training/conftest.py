"""Engines and a run that several files test: three lanes, 6 updates and then 12."""

import pytest

from dtql_jax.training import loop
from tests.helpers import toy, toy_run


@pytest.fixture(scope='package')
def engine():
    """An evaluation every 4 updates; a single dispatch may make any number of them."""
    return toy.engine(toy.lanes(*toy_run.SEEDS))


@pytest.fixture(scope='package')
def fragile():
    """The lane in the middle goes to NaN at update 8, the second of the second phase."""
    return toy.engine(toy.lanes(*toy_run.SEEDS, at1={'blow_at': 8.0}))


@pytest.fixture(scope='package')
def whole(engine, tmp_path_factory):
    """A run that nothing disturbed: its folder, trainer and progress."""
    folder = tmp_path_factory.mktemp('whole')
    trainer = toy_run.trainer(folder, engine)
    return folder, trainer, trainer.run()


@pytest.fixture
def sliced(monkeypatch):
    """One update per dispatch beside an evaluation, all that there are elsewhere."""
    monkeypatch.setattr(loop, 'PLAYING_SECONDS', 0.0)
    monkeypatch.setattr(loop, 'DISPATCH_SECONDS', 1e9)
