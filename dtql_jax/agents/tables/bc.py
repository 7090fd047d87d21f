"""BC's per-task settings: mu is trained as in `configs/dtql.py`, with DTQL's numbers and ours.

DTQL's authors train mu for `pretrain_steps` updates more; here `steps` are all. The reward, which
nothing of BC reads, is left as it is.
"""

from dtql_jax.agents.tables import dtql

_OF_MU = ('lr', 'lr_decay', 'steps', 'batch_size', 'eval_every', 'hidden')

TABLE: dict[str, dict] = {
    task: {name: row[name] for name in _OF_MU if name in row} for task, row in dtql.TABLE.items()
}
