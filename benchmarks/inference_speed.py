"""Acting: milliseconds per call and actions/s for 1 to 1000 observations, by agent and candidates.

  python benchmarks/inference_speed.py [--out=FILE]

What is timed is what an evaluation does: the observations go to the device, the actions come back.
On a CPU a batch is worked through one observation after the other (see `Actor`), on an
accelerator in blocks. Calls of all policies take turns; the median call counts.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
from absl import app, flags
from measure import WALKER, ActingTimer, machine, sizes

from dtql_jax.agents.registry import AGENTS
from dtql_jax.types import Spec

_BATCHES = flags.DEFINE_list('batches', ['1', '10', '100', '1000'], 'numbers of observations')
_DIMS = flags.DEFINE_string('dims', WALKER, 'observation and action sizes')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'blocks of calls per policy')
_SECONDS = flags.DEFINE_float('block_seconds', 1.0, 'seconds per block, at least one call')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')


@dataclasses.dataclass(frozen=True)
class Case:
    """A policy; `candidates` are those it has, None where it chooses among none."""

    agent: str
    candidates: int | None = None


CASES = [
    Case('dtql', 1024), Case('dtql', 1), Case('diffusion_ql', 50), Case('diffusion_ql', 1),
    Case('idql', 64), Case('dql_kl', 1024), Case('srpo'), Case('iql'), Case('bc'),
]  # fmt: skip


def timer(case: Case, batch: int) -> ActingTimer:
    """The policy, compiled, with as many calls per block as fit."""
    cls = AGENTS[case.agent].agent
    settings = {} if case.candidates is None else {'candidates': case.candidates}
    agent = cls(Spec(*sizes(_DIMS.value)), cls.config_class(**settings))
    states = jax.jit(jax.vmap(lambda seed: agent.init(jax.random.key(seed))))(np.zeros(1, int))
    timed = ActingTimer(agent, states, batch, calls=2)
    timed.block()
    timed.calls = max(1, round(1e3 * _SECONDS.value / timed.ms()))
    timed.seconds.clear()
    return timed


def measure(batch: int) -> list[dict]:
    """A row for each policy."""
    timers = {case: timer(case, batch) for case in CASES}
    for _ in range(_ROUNDS.value):
        for timed in timers.values():
            timed.block()
    return [
        {
            **dataclasses.asdict(case),
            'dims': _DIMS.value,
            'batch': batch,
            'ms_per_call': timed.ms(),
            'actions_per_s': 1e3 * batch / timed.ms(),
        }
        for case, timed in timers.items()
    ]


def main(_: list[str]) -> None:
    report = {**machine(), 'results': []}
    print(f'obs/action {_DIMS.value} on {report["device"]}')
    for batch in map(int, _BATCHES.value):
        for row in measure(batch):
            report['results'].append(row)
            among = f'{row["candidates"]} candidates' if row['candidates'] else ''
            print(
                f'{row["agent"]:14}{among:16}{batch:5} observations: '
                f'{row["ms_per_call"]:9.2f} ms, {row["actions_per_s"]:9.0f} actions/s',
                flush=True,
            )
        if _OUT.value:
            pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
