"""Minari sets compared array by array."""

import minari
import numpy as np


def arrays(dataset):
    """Every array of a set, in order."""
    found = []
    for episode in minari.load_dataset(dataset).iterate_episodes():
        seen = episode.observations
        found += [seen[key] for key in sorted(seen)] if isinstance(seen, dict) else [seen]
        found += [episode.actions, episode.rewards, episode.terminations, episode.truncations]
    return found


def assert_same(dataset, other):
    """Asserts that two sets have the same arrays, types included."""
    for ours, theirs in zip(arrays(dataset), arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
