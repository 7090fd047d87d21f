"""Fixtures of the tests that train a small run."""

from tests.helpers.small_runs import (
    cloned,
    compiled,
    here,
    minari_root,
    no_training,
    no_workers,
    trained,
)

__all__ = ['cloned', 'compiled', 'here', 'minari_root', 'no_training', 'no_workers', 'trained']
