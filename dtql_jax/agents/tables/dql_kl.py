"""DQL-KL's per-task settings: DTQL's rows, because no rows for DQL-KL were released.

`gamma` is left out, because DQL-KL has no likelihood term. `alpha` was tuned for DTQL's trust
region; DQL-KL weighs another loss by it, so take it as a starting point.
"""

from dtql_jax.agents.tables import dtql

TABLE: dict[str, dict] = {
    task: {name: value for name, value in row.items() if name != 'gamma'}
    for task, row in dtql.TABLE.items()
}
