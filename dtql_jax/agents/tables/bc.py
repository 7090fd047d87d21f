"""BC's per-task settings: those of mu in `tables/dtql.py`.

DTQL trains mu for `pretrain_steps` more updates; BC trains it for `steps` only. BC ignores rewards,
so no row transforms them.
"""

from dtql_jax.agents.tables import dtql

_OF_MU = ('lr', 'lr_decay', 'steps', 'batch_size', 'eval_every', 'hidden', 'clip_denoised')

TABLE: dict[str, dict] = {
    task: {name: row[name] for name in _OF_MU if name in row} for task, row in dtql.TABLE.items()
}
