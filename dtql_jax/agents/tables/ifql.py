"""IFQL's per-task settings: those of FQL's that concern the task and not the method.

Its released code has one command, for humanoidmaze-medium: the discount of FQL's and 32 candidates,
the default.
"""

from dtql_jax.agents.tables import Table, fql

_OF_THE_TASK = ('steps', 'reward', 'discount', 'eval_every')
# Ours, because its authors have no pointmaze, see `tables/fql.py`. Candidates are few: after so few
# updates the largest Q of 32 is an error of Q (see `tables/idql.py`).
_SMALL = {'hidden': 128, 'tau': 0.05, 'candidates': 4}

TABLE: Table = {
    task: {
        **{name: row[name] for name in _OF_THE_TASK if name in row},
        **(_SMALL if task.startswith(('pointmaze', 'toy')) else {}),
    }
    for task, row in fql.TABLE.items()
}
