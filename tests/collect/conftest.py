"""An empty Minari root for tests of collections."""

import pytest


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty Minari root, which the test's process uses."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    return tmp_path
