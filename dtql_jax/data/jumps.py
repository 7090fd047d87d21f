"""Transitions whose step is no step: they lead from one episode into another.

Where a file does not record the next observation, the next row is taken for it, which is wrong
where the end of an episode is not marked. Where it is recorded, it may be that after the reset:
simulators that reset themselves return it, and a shifted copy of the observations holds it.
"""

import numpy as np

FEW = 50  # with fewer rows there is no usual step
USUAL = 0.9  # the share of steps that are usual
# A step counts as a jump from this multiple of the usual one. In the recorded sets of Hopper,
# HalfCheetah, the antmazes and the door no true step exceeds 11; most resets exceed 30.
MULTIPLE = 15
REGULAR = 0.05  # the median's share of a usual step in columns that move at all times
SAMPLE = 100_000  # rows that tell what is usual


def jumps(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """How many usual steps each transition is, `[N]`: the largest number over the columns.

    A column that mostly rests, such as the place of an object that is pushed now and then, has no
    usual step and does not count.

    Args:
        obs: `[N, O]`.
        next_obs: `[N, O]`.
    """
    largest = np.zeros(len(obs), np.float32)
    stride = -(-len(obs) // SAMPLE)
    for column, after in zip(obs.T, next_obs.T, strict=True):
        with np.errstate(over='ignore', invalid='ignore'):  # others report infinite numbers
            step = np.abs(after - column)
        median, usual = np.quantile(step[::stride], (0.5, USUAL))
        if usual > 0 and median >= REGULAR * usual:
            np.maximum(largest, step / usual, out=largest)
    return largest


def jump_notes(obs: np.ndarray, next_obs: np.ndarray, counts: np.ndarray) -> tuple[str, ...]:
    """A note where transitions jump.

    Args:
        obs: `[N, O]`.
        next_obs: `[N, O]`.
        counts: whether training sees what follows a row, `[N]`.
    """
    if len(obs) < FEW:
        return ()
    size = jumps(obs, next_obs)
    rows = np.flatnonzero((size > MULTIPLE) & counts)
    if not rows.size:
        return ()
    return (
        f'{rows.size:,} transitions jump, the first one in row {rows[0]:,} by '
        f'{size[rows[0]]:,.0f} usual steps: is the next observation that of another episode?',
    )
