"""Settings by task: one table per algorithm, from the name of a row to settings.

A row holds the settings that differ from the defaults of the algorithm's `Config`. A task uses the
first of `Task.rows` that the table has: its own name, its name without version, its OGBench set,
its group, its family. A task without a row uses the defaults.
"""

from typing import Any

Table = dict[str, dict[str, Any]]

# The tasks that every released code has. A method with one row for all of a kind uses these names.
LOCOMOTION = tuple(
    f'{robot}-{level}'
    for robot in ('halfcheetah', 'hopper', 'walker2d')
    for level in ('medium', 'medium-replay', 'medium-expert')
)
ANTMAZES = (
    'antmaze-umaze', 'antmaze-umaze-diverse', 'antmaze-medium-play', 'antmaze-medium-diverse',
    'antmaze-large-play', 'antmaze-large-diverse',
)  # fmt: skip

# How the names of our own rows begin: neither DTQL's nor Diffusion-QL's released code has them.
OURS = (
    'toy', 'pointmaze', 'ogbench', 'door', 'hammer', 'relocate', 'pen-expert', 'halfcheetah-expert',
    'hopper-expert', 'walker2d-expert',
)  # fmt: skip


def hands(*, human: dict[str, Any], cloned: dict[str, Any]) -> Table:
    """Rows for all four hands from pen's released rows. Expert data uses the row of cloned data."""
    rows = {'human': human, 'cloned': cloned, 'expert': cloned}
    names = ('pen', 'door', 'hammer', 'relocate')
    return {f'{hand}-{kind}': row for hand in names for kind, row in rows.items()}
