"""`Episodes`: what every reader makes of a dataset, whatever its format."""

from typing import NamedTuple

import numpy as np

# The columns of `Episodes` with one row a step.
ROWS = ('obs', 'action', 'reward', 'next_obs', 'terminated', 'truncated', 'reached')


class Episodes(NamedTuple):
    """The steps of one dataset in order; observations and actions float32, rewards float64.

    In a Minari set the last `next_obs` of an episode is its last observation, so that no step is
    lost. Whatever the source, none reaches into the next episode.
    """

    name: str
    max_action: float
    obs: np.ndarray  # [N, O]
    action: np.ndarray  # [N, A]
    reward: np.ndarray  # [N]
    next_obs: np.ndarray  # [N, O]
    terminated: np.ndarray  # [N] bool, as recorded
    truncated: np.ndarray  # [N] bool, as recorded
    reached: np.ndarray  # [N] bool, the goal is reached by this step; False without a goal
    length: np.ndarray  # [E] int
    notes: tuple[str, ...] = ()  # what the user should know of how the set was read
