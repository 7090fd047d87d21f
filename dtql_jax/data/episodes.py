"""`Episodes`: what every reader returns, whatever the format."""

from typing import NamedTuple

import numpy as np

# The columns of `Episodes` with one row a step.
ROWS = ('obs', 'action', 'reward', 'next_obs', 'terminated', 'truncated', 'reached')


class Episodes(NamedTuple):
    """The steps of a dataset in order: observations and actions float32, rewards float64.

    `next_obs` never reaches into the next episode. A Minari set records the observation after an
    episode's last action; a flat file without next observations does not, and loses that step.
    """

    name: str
    max_action: float
    obs: np.ndarray  # [N, O]
    action: np.ndarray  # [N, A]
    reward: np.ndarray  # [N]
    next_obs: np.ndarray  # [N, O]
    terminated: np.ndarray  # [N] bool, as recorded
    truncated: np.ndarray  # [N] bool, as recorded
    reached: np.ndarray  # [N] bool or int8, the step is a success: 1, 0 or `success.UNKNOWN`
    length: np.ndarray  # [E] int, rows of each episode
    notes: tuple[str, ...] = ()  # what the user should know of how the set was read
