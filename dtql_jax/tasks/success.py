"""Success, as simulators report it at each step in `info`, under one of two keys.

Worker processes import this module, so it imports no jax.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

SUCCESS = ('success', 'is_success')


def succeeded(info: Any) -> float:
    """1 or 0, as `info['success']` or `info['is_success']` reports; NaN where neither does."""
    told = [info[key] for key in SUCCESS if key in info] if isinstance(info, Mapping) else []
    values = [float(np.asarray(value, np.float64).item()) for value in told if value is not None]
    known = [value for value in values if value in (0, 1)]  # a share of the way tells nothing
    return float(any(known)) if known else np.nan
