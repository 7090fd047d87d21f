"""Behaviours that collect data: scripted ones, and trained policies with noise.

`base` says what a behaviour is and how an episode is recorded, `shards` has it played in worker
processes. `data.collect` makes a dataset of that. Workers import this package: no jax at the top.
"""
