"""What an accelerator would run: every phase compiled for it, its kernels counted, no card needed.

  python benchmarks/accelerator.py --chips=h100 --agents=dtql
  python benchmarks/accelerator.py --chips=here                # this machine's device, also timed

A GPU needs jax[cuda12], a TPU libtpu, installed beside jax's CPU backend. Kernels that are chosen
by trying them on a card (products) have their default form. With --out, a call goes on where an
earlier one stopped.

A row has, for one update: the kernels, by kind and by line of this package; the waits of the device
for the host; bytes, as far as shapes tell, and floating point operations; the memory of a lane; and
the updates/s of each lane that `ASSUMED` gives, slow and fast. Of branches the dearer one counts.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import hlo
import jax
import jax.numpy as jnp
from absl import flags
from jax.experimental import topologies
from measure import WALKER, Case, Report, TrainingTimer, make_flags, sizes, take_turns

from dtql_jax.agents.base import Agent
from dtql_jax.agents.registry import AGENTS
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.data.columns import one_row
from dtql_jax.training.blocks import block_size, unrolled
from dtql_jax.training.compilation import DETERMINISTIC, compile_for
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Phase, Transition, UserError


class Chip(NamedTuple):
    """An accelerator: what XLA wants to know of a GPU, and the rates of its makers' data sheets."""

    bandwidth: float  # bytes/s
    products: float  # floating point operations/s of float32 products, as `precision=highest` has
    gpu: dict[str, Any] | None = None
    capability: tuple[int, str] = (0, '')
    name: str = ''


CHIPS = {
    'a100': Chip(
        2.04e12, 19.5e12,
        {'shared_memory_per_core': 167936, 'core_count': 108, 'fpus_per_core': 64,
         'memory_bandwidth': 2039040000000, 'l2_cache_size': 41943040, 'clock_rate_ghz': 1.41,
         'device_memory_size': 85100068864, 'shared_memory_per_block_optin': 166912},
        (8, 'NONE'), 'NVIDIA A100-SXM4-80GB',
    ),
    'h100': Chip(
        3.35e12, 67e12,
        {'shared_memory_per_core': 233472, 'core_count': 132, 'fpus_per_core': 128,
         'memory_bandwidth': 3352320000000, 'l2_cache_size': 52428800, 'clock_rate_ghz': 1.98,
         'device_memory_size': 84929347584, 'shared_memory_per_block_optin': 232448},
        (9, 'ACCELERATED_FEATURES'), 'NVIDIA H100 80GB HBM3',
    ),
    'b200': Chip(
        7.67e12, 80e12,
        {'shared_memory_per_core': 233472, 'core_count': 148, 'fpus_per_core': 128,
         'memory_bandwidth': 7672320000000, 'l2_cache_size': 132644864, 'clock_rate_ghz': 1.965,
         'device_memory_size': 191514411008, 'shared_memory_per_block_optin': 232448},
        (10, 'ACCELERATED_FEATURES'), 'NVIDIA B200',
    ),
    'v5e': Chip(0.82e12, 33e12),  # six passes of bfloat16
}  # fmt: skip
COMMON = {
    'threads_per_block_limit': 1024, 'threads_per_warp': 32, 'shared_memory_per_block': 49152,
    'threads_per_core_limit': 2048, 'block_dim_limit_x': 2147483647, 'block_dim_limit_y': 65535,
    'block_dim_limit_z': 65535, 'registers_per_core_limit': 65536,
    'registers_per_block_limit': 65536,
}  # fmt: skip
# Not measured: seconds of a kernel beside its work and of a wait for the host, and the shares of
# bandwidth and product rate that small kernels reach; in the slow case and in the fast one.
ASSUMED = {
    'slow': {'kernel': 5e-6, 'wait': 30e-6, 'share': 0.1},
    'fast': {'kernel': 2e-6, 'wait': 10e-6, 'share': 1.0},
}

FLAGS = make_flags(blocks=3, block_seconds=0.5)
flags.DEFINE_list('chips', ['h100'], f'{", ".join(CHIPS)}, or here: this device', FLAGS)
flags.DEFINE_list('agents', [], 'agents (default: all)', FLAGS)
flags.DEFINE_list('lanes', ['1'], 'lanes of each device', FLAGS)
flags.DEFINE_list('devices', ['1'], 'devices of one machine: 1, or 8', FLAGS)
flags.DEFINE_string('dims', WALKER, 'observation and action sizes', FLAGS)
define_whole('batch_size', 256, 'batch size', FLAGS)
define_whole('rows', 1_000_000, 'transitions of the data', FLAGS)
flags.DEFINE_bool('deterministic', False, 'with the options of that setting', FLAGS)
define_whole('top', 12, 'lines of the package to name in a row', FLAGS)


def devices_of(chip: str, count: int) -> list[jax.Device]:
    """Devices to compile for. Only those of 'here' exist."""
    if chip == 'here':
        return jax.local_devices()[:1]
    if chip not in CHIPS:
        raise UserError(f'--chips={chip}: there are {", ".join(CHIPS)} and here')
    try:
        if CHIPS[chip].gpu is None:
            # libtpu looks for a TPU's host otherwise.
            os.environ |= {'TPU_SKIP_MDS_QUERY': '1', 'TPU_WORKER_HOSTNAMES': 'localhost'}
            os.environ |= {'TPU_ACCELERATOR_TYPE': 'v5litepod-8'}
            found = topologies.get_topology_desc('v5e:2x4', platform='tpu')
        else:
            found = topologies.get_topology_desc(
                chip, 'cuda', target_config=target(CHIPS[chip]), topology=f'1x1x{count}'
            )
    except Exception as error:  # each plugin has its own
        wanted = 'libtpu' if CHIPS[chip].gpu is None else f'"jax[cuda12]=={jax.__version__}"'
        raise UserError(f'--chips={chip}: {error}: pip install {wanted}') from error
    return list(found.devices)[:count]


def target(chip: Chip) -> str:
    """A GPU as XLA's text of it."""
    fields = ' '.join(f'{name}: {value}' for name, value in {**COMMON, **(chip.gpu or {})}.items())
    major, extension = chip.capability
    return (
        f'gpu_device_info {{ {fields} cuda_compute_capability {{ major: {major} feature_extension: '
        f'{extension} }} }} platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 7 }} '
        f'device_description_str: "{chip.name}"'
    )


def shapes_of(agent: Agent, rows: int) -> Transition:
    """The shapes of an agent's data."""
    row = one_row(agent.spec, agent.columns)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), row)


def compiled(
    lowered: jax.stages.Lowered, chip: str, asked: flags.FlagValues
) -> tuple[jax.stages.Compiled, float]:
    """The program and the seconds it took."""
    began = time.perf_counter()
    if chip == 'here':
        program = compile_for(jax.local_devices()[0], lowered, asked.deterministic)
    elif CHIPS[chip].gpu:  # there is no card to try kernels on
        options = DETERMINISTIC['gpu'] if asked.deterministic else {}
        program = lowered.compile({'xla_gpu_autotune_level': '0', **options})
    else:
        program = lowered.compile()
    return program, time.perf_counter() - began


def told(count: hlo.Count, updates: int, top: int) -> dict[str, Any]:
    """What a count says of one of `updates` updates."""

    def each(counter: Any, most: int | None = None) -> dict[str, float]:
        return {name: round(n / updates, 2) for name, n in counter.most_common(most)}

    return {
        'kernels': round(count.total / updates, 2),
        'waits': round(count.stops / updates, 3),
        'megabytes': round(count.moved / updates / 1e6, 2),
        'collectives': count.collectives,
        'kinds': each(count.kernels),
        'lines': each(count.lines, top),
    }


def predicted(row: dict[str, Any], chip: Chip) -> dict[str, int]:
    """Updates/s of each lane by `ASSUMED`."""
    rates = {}
    for case, assumed in ASSUMED.items():
        moving = row['megabytes'] * 1e6 / chip.bandwidth / assumed['share']
        computing = row['gflop'] * 1e9 * row['lanes'] / chip.products / assumed['share']
        work = max(moving, computing) if case == 'fast' else moving + computing
        starting = row['kernels'] * assumed['kernel'] + row['waits'] * assumed['wait']
        rates[case] = round(1 / (starting + work))
    return rates


def phase_row(engine: Engine, phase: Phase, chip: str, asked: flags.FlagValues) -> dict[str, Any]:
    """Compiles a phase, and counts an update of all lanes of a device."""
    block = engine.block
    program, seconds = compiled(engine.lower(phase, block), chip, asked)
    # A TPU runs loops by itself, and its program does not tell their lengths.
    alone = chip in CHIPS and CHIPS[chip].gpu is None
    text, untold = program.as_text() or '', block // unrolled(block) if alone else 1
    read = hlo.Program(text, at_most=4 * asked.rows - 1, untold=untold)
    loops = [body for body, trips in read.loops() if trips is None]
    body = max(loops, key=lambda name: read.count(name).total)
    cost = read.count(body)
    inner = [trips for _, trips in read.loops(body) if trips is not None]
    known = block == unrolled(block) or any(n > 1 and block % n == 0 for n in inner)
    memory: Any = program.memory_analysis()
    lanes = len(engine.lanes) // len(engine.devices)
    data = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(engine.data))
    return {
        **told(cost._replace(stops=0 if alone else cost.stops + 1), block, asked.top),
        'block': block,
        'block_known': None if alone else known,
        'gflop': round(engine.update(phase).flops / 1e9, 3),
        'state_mb': round((memory.argument_size_in_bytes - data) / lanes / 1e6, 2),
        'temporary_mb': round(memory.temp_size_in_bytes / lanes / 1e6, 2),
        'compile_s': round(seconds, 1),
    }


def act_row(engine: Engine, chip: str, asked: flags.FlagValues) -> dict[str, Any]:
    """Compiles the choice of an action by one lane, and counts its kernels."""
    agent, sharding = engine.agent, jax.sharding.SingleDeviceSharding(engine.devices[0])

    def placed(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharding)

    params = jax.tree.map(placed, jax.eval_shape(jax.vmap(agent.acting), engine.shapes))
    obs = jax.ShapeDtypeStruct((sizes(asked.dims)[0],), jnp.float32, sharding=sharding)
    words = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=sharding)

    def act(params: Any, obs: jax.Array, words: jax.Array) -> jax.Array:
        return agent.precise(agent.act)(params, obs, jax.random.wrap_key_data(words))

    program, seconds = compiled(jax.jit(act).lower(params, obs, words), chip, asked)
    cost = hlo.Program(program.as_text() or '').count()
    return {**told(cost, 1, asked.top), 'compile_s': round(seconds, 1)}


def rows_of(
    agent: str, chip: str, lanes: int, count: int, asked: flags.FlagValues, done: list[Any]
) -> Iterator[dict[str, Any]]:
    """The rows of an agent that are not `done`: one for each phase, and one for its actions."""
    case, devices = Case(agent, asked.dims, asked.batch_size), devices_of(chip, count)
    every = [Lane(agent, seed) for seed in range(lanes * count)]
    made = case.make()
    block = block_size(made.phases(), made.config.eval_every)
    engine = Engine(made, shapes_of(made, asked.rows), every, devices, block=block)
    head = {'agent': agent, 'chip': chip, 'lanes': lanes, 'devices': len(devices)}
    for phase in engine.agent.phases():
        key = {**head, 'phase': phase.name}
        if key not in done:
            row = {**key, **phase_row(engine, phase, chip, asked)}
            if chip in CHIPS and CHIPS[chip].gpu:
                row['predicted'] = predicted(row, CHIPS[chip])
            yield row
    if lanes == count == 1 and {**head, 'phase': 'act'} not in done:
        yield {**head, 'phase': 'act', **act_row(engine, chip, asked)}


def timed(agent: str, lanes: int, asked: flags.FlagValues) -> dict[str, Any]:
    """The updates/s of each phase on this device, all lanes together."""
    engine = Case(agent, asked.dims, asked.batch_size, lanes).engine()
    timer = TrainingTimer(engine, asked.block_seconds, all_phases=True)
    take_turns([timer], asked.blocks)
    return timer.rates()


KEY = ('agent', 'phase', 'chip', 'lanes', 'devices')  # what tells rows apart
# The columns of `table`: a name, and the chip, lanes and devices of their rows.
COLUMNS = {
    'H100': ('h100', 1, 1),
    '32 lanes': ('h100', 32, 1),
    '8 devices': ('h100', 1, 8),
    'A100': ('a100', 1, 1),
    'B200': ('b200', 1, 1),
    'v5e': ('v5e', 1, 1),
}


def table(report: dict[str, Any], before: dict[str, Any]) -> str:
    """The kernels of an update or action, those of an earlier report in brackets, as Markdown."""
    both = (content['results'] for content in (report, before))
    now, then = ({tuple(row[name] for name in KEY): row for row in rows} for rows in both)
    head = ['agent', 'phase', *COLUMNS, 'updates/s of an H100 by `ASSUMED`']
    lines = [f'| {" | ".join(head)} |', f'|{"---|" * len(head)}']
    for agent, phase in dict.fromkeys(key[:2] for key in now):
        cells = []
        for column in COLUMNS.values():
            key = (agent, phase, *column)
            earlier = f' ({then[key]["kernels"]:.0f})' if key in then else ''
            cells.append(f'{now[key]["kernels"]:.0f}{earlier}' if key in now else '')
        rates = now.get((agent, phase, *COLUMNS['H100']), {}).get('predicted', {})
        cells.append(f'{rates["slow"]:,} to {rates["fast"]:,}' if rates else '')
        lines.append(f'| {" | ".join([agent, phase, *cells])} |')
    return '\n'.join(lines)


def main(asked: flags.FlagValues) -> None:
    head = {name: asked[name].value for name in ('dims', 'batch_size', 'rows', 'deterministic')}
    report = Report(asked.out, keep=True, assumed=ASSUMED, **head)
    for chip in asked.chips:
        for count in map(int, asked.devices):
            for lanes in map(int, asked.lanes):
                for agent in asked.agents or AGENTS:
                    done = [{name: row[name] for name in KEY} for row in report.rows]
                    for row in rows_of(agent, chip, lanes, count, asked, done):
                        report.add(row)
                    if chip == 'here':
                        rates = {'agent': agent, 'lanes': lanes, **timed(agent, lanes, asked)}
                        report.put('measured', [*report.content.get('measured', []), rates])


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
