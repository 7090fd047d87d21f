"""Fixtures of the tests of studies."""

from tests.helpers.small_runs import trained

__all__ = ['trained']
