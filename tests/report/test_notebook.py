"""A run within a notebook: one line of progress, and the picture below the cell."""

import io
import sys
import types

import pytest

from dtql_jax.report.console import Console
from dtql_jax.report.notebook import in_notebook, show_picture
from dtql_jax.types import Phase

PHASE = Phase('train', None, 10, 1)


@pytest.fixture
def shown(monkeypatch):
    """A kernel, as IPython has it; what was displayed."""
    pictures = []
    display = types.SimpleNamespace(Image=lambda filename: filename, display=pictures.append)
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    return pictures


def test_show_picture__in_a_notebook(shown, tmp_path):
    assert in_notebook()
    show_picture(tmp_path / 'curves.png')
    assert shown == [str(tmp_path / 'curves.png')]


@pytest.mark.parametrize('shell', [None, types.SimpleNamespace()])
def test_show_picture__does_nothing_elsewhere(shown, monkeypatch, shell):
    """There is no shell, or one in a terminal."""
    monkeypatch.setattr(sys.modules['IPython'], 'get_ipython', lambda: shell)
    assert not in_notebook()
    show_picture('curves.png')
    assert shown == []
    monkeypatch.delitem(sys.modules, 'IPython')
    assert not in_notebook()


@pytest.mark.usefixtures('shown')
def test_Console__rewrites_its_line_in_a_notebook(monkeypatch):
    cell = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', cell)
    console = Console()
    for step in (1, 2):
        console.progress(PHASE, step, 10, 1.0)
    console.say('done')
    lines = cell.getvalue()
    assert lines.count('\rtrain ') == 2
    assert lines.endswith('\rdone\n')
    other = io.StringIO()  # a file that the user gives
    console = Console(other)
    console.progress(PHASE, 1, 10, 1.0)
    assert '\r' not in other.getvalue()
