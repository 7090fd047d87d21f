"""Datasets as float32 transitions: `load` reads, checks, relabels and describes one."""

from dtql_jax.data.card import format_card
from dtql_jax.data.loading import REWARDS, Dataset, load

__all__ = ['REWARDS', 'Dataset', 'format_card', 'load']
