"""Settings per task: one table per algorithm, from the name of a task or a family to its settings.

A row holds what differs from the defaults of the algorithm's `Config`. The row of a task is the
first that exists of `Task.rows`: by its name, then its base, then its family.
"""

from typing import Any

Table = dict[str, dict[str, Any]]

# Beginnings of the rows that are ours: neither DTQL's nor Diffusion-QL's released code has them.
OURS = (
    'pointmaze', 'ogbench', 'door', 'hammer', 'relocate', 'pen-expert', 'halfcheetah-expert',
    'hopper-expert', 'walker2d-expert',
)  # fmt: skip


def hands(*, human: dict[str, Any], cloned: dict[str, Any]) -> Table:
    """Rows of every hand from those that were released for pen; an expert's data as cloned ones."""
    rows = {'human': human, 'cloned': cloned, 'expert': cloned}
    names = ('pen', 'door', 'hammer', 'relocate')
    return {f'{hand}-{kind}': row for hand in names for kind, row in rows.items()}
