"""Speed of training, of acting and of whole runs, one part at a time.

  python benchmarks/speed.py                                         # training, a selection
  python benchmarks/speed.py --grid=full --out=speed.json            # training, every size
  python benchmarks/speed.py --agents=dtql --dims=17/6 --batch_sizes=256 --seeds=1,4
  python benchmarks/speed.py --part=acting
  python benchmarks/speed.py --part=scaling --axes=seeds --values=1,4,16
  python benchmarks/speed.py --part=tasks --envs=hopper-medium --agents=dtql,iql
  python benchmarks/speed.py --part=run --env=hopper-medium --steps=30000 --pretrain_steps=5000
  python benchmarks/speed.py --part=overlap --num_seeds=8 --steps=20000 --eval_every=2000

Parts:
  training  updates/s of agents on synthetic data, by phase, and compile time. With --out a case
            that is in the file is not measured again.
  acting    milliseconds per call and actions/s for 1 to 1000 observations.
  scaling   DTQL's updates/s against seeds, batch size and transitions; collectives in the program
            of one lane per device (emulated on a CPU, where nothing gets faster by them); megabytes
            per seed, as the compiler predicts and as they are, and how many seeds fit.
  tasks     updates/s and milliseconds per action on the data of tasks, with their settings.
  run       where the wall-clock of a whole run goes. With --out it is added to the file.
  overlap   a run with evaluations between training and one with them beside it; the scores must be
            equal.

Contenders take turns in blocks and the median block counts: a machine that drifts favours none.
"""

import contextlib
import itertools
import os
import re
import sys

import jax
import measure
import numpy as np
import whole_runs
from absl import flags
from measure import ANTMAZE, PEN, WALKER, Case, Report, TrainingTimer

from dtql_jax.agents.registry import AGENTS
from dtql_jax.cli.flags import run_command
from dtql_jax.collect.write import collect_missing
from dtql_jax.data.load import load
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.training.engine import Engine
from dtql_jax.types import UserError

FLAGS = measure.make_flags(blocks=5)
PARTS = ('training', 'acting', 'scaling', 'tasks', 'run', 'overlap')
AXES = ('seeds', 'batch', 'data', 'devices', 'memory')
flags.DEFINE_string('part', 'training', f'what to measure: {", ".join(PARTS)}', FLAGS)
flags.DEFINE_string('grid', 'cpu', 'training: a selection (cpu) or every size (full)', FLAGS)
flags.DEFINE_list('agents', [], 'algorithms; training: in place of the grid; others: of all', FLAGS)
flags.DEFINE_list('dims', [WALKER], 'observation/action sizes, with --agents', FLAGS)
flags.DEFINE_list(
    'batch_sizes', ['256'], "batch sizes, with --agents; tasks: not the task's", FLAGS
)
flags.DEFINE_list('seeds', ['1'], 'numbers of seeds trained at once, with --agents', FLAGS)
flags.DEFINE_list('observations', ['1', '10', '100', '1000'], 'acting: observations a call', FLAGS)
flags.DEFINE_list('axes', list(AXES), 'scaling: what to vary', FLAGS)
flags.DEFINE_list('values', [], 'scaling: values of an axis, in place of the usual ones', FLAGS)
flags.DEFINE_list('envs', ['halfcheetah-medium'], 'tasks: their names', FLAGS)
whole_runs.define_flags(FLAGS)
flags.DEFINE_string('child', None, 'used by the script itself', FLAGS)

ACTING = [
    ('dtql', 1024), ('dtql', 1), ('diffusion_ql', 50), ('diffusion_ql', 1), ('idql', 64),
    ('dql_kl', 1024), ('srpo', None), ('iql', None), ('bc', None),
]  # fmt: skip
SCALES = {
    'seeds': ('1', '2', '4', '8', '16'),
    'batch': ('128', '256', '512', '1024', '2048'),
    'data': ('100000', '1000000', '10000000'),
    'devices': ('1', '2', '4', '8'),
    'memory': ('1', '16'),
}
COLLECTIVE = re.compile(r'\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)')


def training_cases(asked: flags.FlagValues) -> list[Case]:
    """The cases that the flags ask for."""
    if asked.agents:
        grid = itertools.product(asked.agents, asked.dims, asked.batch_sizes, asked.seeds)
        return [Case(a, d, int(b), int(s)) for a, d, b, s in grid]
    if asked.grid == 'full':
        groups = itertools.product((WALKER, ANTMAZE, PEN), (256, 2048), (1, 2, 4, 8, 16, 32, 64))
        return [Case(agent, *group) for group in groups for agent in AGENTS]
    max_q = (('max_q_backup', True),)
    return [
        *[Case(agent) for agent in AGENTS],
        *[Case(agent, seeds=n) for n in (2, 4) for agent in ('dtql', 'diffusion_ql')],
        Case('dtql', ANTMAZE, 2048),
        Case('diffusion_ql', ANTMAZE, 2048, settings=max_q),
        Case('diffusion_ql', ANTMAZE, 256, settings=max_q),
        Case('dtql', PEN),
    ]


def training(asked: flags.FlagValues, report: Report) -> None:
    """Adds the cases that the file lacks; those of one size take turns."""
    names = ('agent', 'dims', 'batch_size', 'seeds', 'variant')
    waiting = {}
    for case in training_cases(asked):
        values = (case.agent, case.dims, case.batch_size, case.seeds)
        row = dict(zip(names, (*values, ' '.join(dict(case.settings))), strict=True))
        if not any(row.items() <= other.items() for other in report.rows):
            waiting[case] = row
    for _, group in itertools.groupby(waiting, lambda c: (c.dims, c.batch_size, c.seeds)):
        timers: dict[Case, TrainingTimer | None] = dict.fromkeys(group)
        for case in timers:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # out of memory
                timers[case] = TrainingTimer(case.engine(), asked.block_seconds, all_phases=True)
        measure.take_turns([timer for timer in timers.values() if timer], asked.blocks)
        for case, timer in timers.items():
            if timer is None:
                report.add({**waiting[case], 'updates_per_s': None})
                continue
            spread = {name: [min(t.rates), max(t.rates)] for name, t in timer.timers.items()}
            rates = {'updates_per_s': timer.rates(), 'range': spread}
            report.add({**waiting[case], **rates, 'compile_s': timer.compile_s})


def acting(asked: flags.FlagValues, report: Report) -> None:
    """Adds a row for each number of observations and policy."""
    dims = asked.dims[0]
    for batch in map(int, asked.observations):
        timers = {}
        for name, candidates in ACTING:
            if asked.agents and name not in asked.agents:
                continue
            settings = (('candidates', candidates),) if candidates else ()
            agent = Case(name, dims, settings=settings).make()
            states = jax.jit(jax.vmap(lambda n, a=agent: a.init(jax.random.key(n))))(
                np.zeros(1, int)
            )
            timer = measure.acting_timer(agent, states, batch, asked.block_seconds)
            timers[name, candidates] = timer
        measure.take_turns(timers.values(), asked.blocks)
        for (name, candidates), timer in timers.items():
            row = {'agent': name, 'candidates': candidates, 'dims': dims, 'batch': batch}
            speed = {'ms_per_call': 1e3 / timer.rate, 'actions_per_s': batch * timer.rate}
            report.add({**row, **speed})


def scaling(asked: flags.FlagValues, report: Report) -> None:
    """Puts an entry for each axis."""
    for axis in asked.axes:
        values = [int(value) for value in asked.values or SCALES[axis]]
        if axis == 'devices':
            report.put(axis, devices(values))
        elif axis == 'memory':
            report.put(axis, memory(values[0], values[-1]))
        else:
            report.put(axis, along(axis, values, asked.blocks, asked.block_seconds))


def along(axis: str, values: list[int], blocks: int, block_s: float) -> list[dict]:
    """DTQL's updates/s at each value of an axis."""
    setting = {'seeds': 'seeds', 'batch': 'batch_size', 'data': 'transitions'}[axis]
    timers = [TrainingTimer(Case(**{setting: value}).engine(), block_s) for value in values]
    measure.take_turns(timers, blocks)
    rows = []
    for value, timer in zip(values, timers, strict=True):
        rate = timer.rates()['train']
        all_seeds = rate * len(timer.engine.lanes)
        rows.append(
            {'axis': axis, 'value': value, 'updates_per_s': rate, 'seed_updates_per_s': all_seeds}
        )
    return rows


def devices(counts: list[int]) -> list[dict]:
    """Communication in the program of one lane on each of so many devices."""
    if jax.default_backend() != 'cpu':
        return [collectives(len(jax.local_devices()))]
    flag = '--xla_force_host_platform_device_count='
    return [measure.in_child([f'--child=devices={n}'], XLA_FLAGS=f'{flag}{n}') for n in counts]


def collectives(lanes: int) -> dict[str, int]:
    """The devices and the collectives of DTQL's program for so many lanes."""
    engine = Case(seeds=lanes).engine()
    text = engine.compile(engine.agent.phases()[-1]).as_text()
    return {'devices': len(engine.devices), 'collectives': len(COLLECTIVE.findall(text))}


def memory(few: int, many: int) -> dict[str, float]:
    """Megabytes per seed and the seeds that fit, from programs of `few` and of `many` seeds."""
    small, large = (measure.in_child([f'--child=memory={n}']) for n in (few, many))
    predicted, measured = ((large[k] - small[k]) / (many - few) for k in ('predicted', 'peak'))
    stats = jax.local_devices()[0].memory_stats()
    free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    free = stats['bytes_limit'] if stats else free
    return {
        'predicted_mb_per_seed': predicted / 1e6,
        'measured_mb_per_seed': measured / 1e6,
        'available_gb': free / 1e9,
        'seeds_that_fit': int((free - small['predicted']) / predicted) + few,
    }


def bytes_of_training(seeds: int) -> dict[str, int]:
    """The most bytes while training in this fresh process, as predicted and as they are.

    Predicted by the compiler: the program, the data, and two copies of the states, of which
    `Engine.advance` keeps one from before a dispatch. Measured on the device where it tells, else
    in this process.
    """
    engine = Case(seeds=seeds).engine()
    phase = engine.agent.phases()[-1]
    program = engine.compile(phase).memory_analysis()
    measure.forget_peak()  # compiling takes memory of its own
    state, sums = engine.init(), engine.zeros(phase)
    data, states = (sum(x.nbytes for x in jax.tree.leaves(t)) for t in (engine.data, state))
    jax.block_until_ready(engine.advance(phase, state, sums, 2, np.ones(seeds, bool)))
    stats = jax.local_devices()[0].memory_stats()
    peak = stats['peak_bytes_in_use'] if stats else measure.resident('VmHWM')
    return {'predicted': data + 2 * states + program.temp_size_in_bytes, 'peak': peak}


def tasks(asked: flags.FlagValues, report: Report) -> None:
    """Adds the tasks and agents that the file lacks."""
    for env, name in itertools.product(asked.envs, asked.agents or AGENTS):
        if any((row['env'], row['agent']) == (env, name) for row in report.rows):
            continue
        settings = {'clone_seeds': 0}
        if asked['batch_sizes'].present:
            settings |= measure.batches_of(name, int(asked.batch_sizes[0]))
        request = {'env': env, 'agent': name, 'num_seeds': asked.num_seeds, 'settings': settings}
        plan = make_plan(make_request(request))
        dataset = load(plan.task, reward=plan.config.reward, collect=collect_missing)
        agent = plan.agent(dataset.spec, plan.config)
        engine = Engine(agent, dataset.transitions, plan.lanes)
        timer = TrainingTimer(engine, asked.block_seconds, all_phases=True)
        actor = measure.acting_timer(agent, timer.state, 1, asked.block_seconds)
        measure.take_turns([timer, actor], asked.blocks)
        rates = timer.rates()
        *earlier, last = rates  # phases, each with the setting that holds its number of updates
        updates = {f'{phase}_steps': rates[phase] for phase in earlier} | {'steps': rates[last]}
        speed = {'updates_per_s': updates, 'ms_per_action': 1e3 / actor.rate}
        report.add({'env': env, 'agent': name, **speed})


def main(asked: flags.FlagValues) -> None:
    if asked.child:
        what, value = asked.child.split('=')
        measure.answer({'devices': collectives, 'memory': bytes_of_training}[what](int(value)))
        return
    parts = {'training': training, 'acting': acting, 'scaling': scaling, 'tasks': tasks}
    parts |= {'run': whole_runs.run_parts, 'overlap': whole_runs.overlap}
    if asked.part not in PARTS:
        raise UserError(f'--part={asked.part}: choose one of {", ".join(PARTS)}')
    keep = asked.part not in ('acting', 'overlap')
    parts[asked.part](asked, Report(asked.out, keep, part=asked.part))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
