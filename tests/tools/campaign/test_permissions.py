"""Permissions bind inside, and not any more outside."""

import os

import pytest

from tests.helpers.permissions import obeying_permissions


def test_obeying__a_closed_file(tmp_path):
    path = tmp_path / 'closed'
    path.write_text('x')
    path.chmod(0)
    with obeying_permissions(), pytest.raises(PermissionError):
        path.read_text()
    if os.geteuid() == 0:
        assert path.read_text() == 'x'
