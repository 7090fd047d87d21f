"""Permissions that also bind the superuser, whom CI runs as."""

import contextlib
from collections.abc import Iterator

import pytest

from tools.campaign import permissions


@contextlib.contextmanager
def obeying_permissions() -> Iterator[None]:
    """`tools.campaign.permissions.obeying`; skips the test where capabilities cannot be dropped."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(permissions.obeying())
        except permissions.NotHere as reason:
            pytest.skip(str(reason))
        yield
