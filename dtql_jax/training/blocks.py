"""Where a run stops to look: log windows, and blocks of updates between two looks."""

import math
from collections.abc import Sequence

from dtql_jax.types import Phase

LOG_WINDOW = 1000  # updates per row of metrics, at most
MOST = 16  # updates of a block, at most: an evaluation beside the training waits for a block


def block_size(phases: Sequence[Phase], eval_every: int) -> int:
    """The updates of a block: the largest number, up to `MOST`, that divides every dispatch.

    Dispatches end where a row or an evaluation is due, or a phase ends. Even numbers come first,
    see `unrolled`.
    """
    steps = [phase.steps for phase in phases if not phase.online]
    between = math.gcd(min(LOG_WINDOW, eval_every), eval_every, *steps)
    sizes = [size for size in range(1, MOST + 1) if between % size == 0]
    return max(sizes, key=lambda size: (size % 2 == 0, size))


def unrolled(block: int) -> int:
    """The updates of a block that are compiled in a row: two, where they fill it.

    XLA joins products of the second with those of the first that have the same weights, and may
    round otherwise. So pairs are the same in blocks of any even size. More than two updates gain
    little and take much longer to compile.
    """
    return 2 - block % 2
