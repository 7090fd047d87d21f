"""Minari roots, and files of other formats, for the tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'minari'


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty Minari root, which the test's process uses."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    return tmp_path


@pytest.fixture
def shared(monkeypatch):
    """The Minari root beside the checkout, read-only."""
    if not SHARED.is_dir():
        pytest.skip('no ../shared/data/minari beside the checkout')
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(SHARED))
    return SHARED


@pytest.fixture
def ogbench_file():
    """An OGBench set beside the checkout, read-only."""
    path = SHARED.parent / 'ogbench' / 'antmaze-large-navigate-v0.npz'
    if not path.is_file():
        pytest.skip('no ../shared/data/ogbench beside the checkout')
    return path
