"""DQL-KL's per-task settings: DTQL's, since no table of its own is released.

They are DTQL's rows without `gamma`, the weight of a likelihood term that DQL-KL lacks. `alpha`,
tuned for DTQL's trust region, weighs another loss here: a starting point.
"""

from dtql_jax.agents.tables import dtql

TABLE: dict[str, dict] = {
    task: {name: value for name, value in row.items() if name != 'gamma'}
    for task, row in dtql.TABLE.items()
}
