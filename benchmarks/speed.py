"""Training speed: updates per second of every agent on synthetic transitions, compile time apart.

  python benchmarks/training_speed.py                                # a selection, for a CPU
  python benchmarks/training_speed.py --grid=full --out=speed.json   # every combination, resumable
  python benchmarks/training_speed.py --agents=dtql --dims=17/6 --batch_sizes=256 --seeds=1,4

Configurations of one size form a group. Each is compiled and warmed up first; then blocks of
updates of the group take turns, so that a machine that drifts favours none, and the median block
counts. The result file keeps what is done: started again, the script goes on. A configuration that
does not fit into the memory is recorded as such.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib

import jax
from absl import app, flags
from measure import ANTMAZE, PEN, WALKER, TrainingTimer, machine, sizes, synthetic

from dtql_jax.agents.registry import AGENTS
from dtql_jax.types import Lane, Spec, Transition

_GRID = flags.DEFINE_enum('grid', 'cpu', ['cpu', 'full'], 'a selection of minutes, or everything')
_AGENTS = flags.DEFINE_list('agents', None, 'algorithms, in place of the grid')
_DIMS = flags.DEFINE_list('dims', ['17/6'], 'observation/action sizes, with --agents')
_BATCHES = flags.DEFINE_list('batch_sizes', ['256'], 'batch sizes, with --agents')
_SEEDS = flags.DEFINE_list('seeds', ['1'], 'numbers of seeds trained at once, with --agents')
_BLOCKS = flags.DEFINE_integer('blocks', 5, 'timed blocks per configuration')
_BLOCK_SECONDS = flags.DEFINE_float('block_seconds', 2.0, 'seconds per block')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write and to go on with')


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration. `variant` names settings that are not the defaults."""

    agent: str
    dims: str
    batch_size: int
    seeds: int
    variant: str = ''

    @property
    def size(self) -> tuple[str, int, int]:
        """What the members of a group share."""
        return self.dims, self.batch_size, self.seeds


def cases() -> list[Case]:
    """What the flags ask for."""
    if _AGENTS.value:
        grid = itertools.product(_AGENTS.value, _DIMS.value, _BATCHES.value, _SEEDS.value)
        return [Case(a, d, int(b), int(s)) for a, d, b, s in grid]
    if _GRID.value == 'full':
        groups = itertools.product((WALKER, ANTMAZE, PEN), (256, 2048), (1, 2, 4, 8, 16, 32, 64))
        return [Case(agent, *group) for group in groups for agent in AGENTS]
    return [
        *[Case(agent, WALKER, 256, 1) for agent in AGENTS],
        *[Case(a, WALKER, 256, n) for n in (2, 4) for a in ('dtql', 'diffusion_ql')],
        Case('dtql', ANTMAZE, 2048, 1),
        Case('diffusion_ql', ANTMAZE, 2048, 1, 'max_q_backup'),
        Case('diffusion_ql', ANTMAZE, 256, 1, 'max_q_backup'),
        Case('dtql', PEN, 256, 1),
    ]


def timer(case: Case, data: Transition) -> TrainingTimer:
    """The case, compiled and warm."""
    cls = AGENTS[case.agent].agent
    fields = {field.name for field in dataclasses.fields(cls.config_class)}
    settings = {name: case.batch_size for name in fields if name.endswith('batch_size')}
    config = cls.config_class(**settings, **({case.variant: True} if case.variant else {}))
    lanes = [Lane(case.agent, seed) for seed in range(case.seeds)]
    agent = cls(Spec(*sizes(case.dims)), config)
    return TrainingTimer(agent, data, lanes, _BLOCK_SECONDS.value, all_phases=True)


def measure(group: list[Case]) -> list[dict]:
    """The figures of cases of one size."""
    data = synthetic(group[0].dims)
    timers: dict[Case, TrainingTimer] = {}
    for case in group:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # out of memory
            timers[case] = timer(case, data)
    for _ in range(_BLOCKS.value):
        for one in timers.values():
            one.block()
    return [dataclasses.asdict(case) | result(timers.get(case)) for case in group]


def result(timer: TrainingTimer | None) -> dict:
    """Updates/s of all seeds together by phase: the median block, the slowest and fastest."""
    if timer is None:
        return {'updates_per_s': None}
    return {
        'updates_per_s': timer.medians(),
        'range': {name: [min(r), max(r)] for name, r in timer.rates.items()},
        'compile_s': timer.compile_s,
    }


def line(row: dict) -> str:
    """A row as text."""
    head = f'{row["agent"]:14}{row["variant"]:14}{row["dims"]:>6}{row["batch_size"]:6}'
    head += f'{row["seeds"]:4} seeds '
    if row['updates_per_s'] is None:
        return head + 'does not fit into the memory'
    rates = [
        f'{name} {rate:.1f} ({row["range"][name][0]:.1f} to {row["range"][name][1]:.1f})'
        for name, rate in row['updates_per_s'].items()
    ]
    return head + 'updates/s: ' + ', '.join(rates) + f'; compiled in {row["compile_s"]:.1f} s'


def main(_: list[str]) -> None:
    out = pathlib.Path(_OUT.value) if _OUT.value else None
    report = {**machine(), 'results': []}
    if out and out.exists():
        report = json.loads(out.read_text()) | machine()
    names = [field.name for field in dataclasses.fields(Case)]
    done = {Case(*(row[name] for name in names)) for row in report['results']}
    waiting = [case for case in cases() if case not in done]
    for _, group in itertools.groupby(waiting, key=lambda case: case.size):
        rows = measure(list(group))
        report['results'] += rows
        print('\n'.join(line(row) for row in rows), flush=True)
        if out:
            out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
