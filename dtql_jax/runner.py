"""`run`: a request, from names to the final table. `experiments/run.py` is its command line."""

import contextlib
import dataclasses
import functools
import pathlib
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dtql_jax
from dtql_jax import data, plots, statistics, tasks, training
from dtql_jax.agents import AGENTS, Agent
from dtql_jax.console import Console, duration, score_table
from dtql_jax.engine import Engine, Lane
from dtql_jax.env_pool import EnvPool, choose_workers
from dtql_jax.evaluation import Actor, evaluate
from dtql_jax.loggers import make_sinks, read_jsonl
from dtql_jax.plan import (
    Plan,
    Request,
    create_run,
    differences,
    make_plan,
    read_run,
    request_of_run,
)
from dtql_jax.types import Params, Spec, UserError

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'minari', 'gymnasium', 'mujoco', 'numpy')
CACHE = pathlib.Path('~/.cache/dtql_jax/xla').expanduser()
# A plan's estimate of time: the share of the machine's matrix-product rate that training reaches.
USUAL_EFFICIENCY = 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the rows of its evaluations, and the table it printed."""

    run_dir: pathlib.Path
    evals: list[dict[str, Any]]
    table: str

    def scores(self, variant: str) -> list[float]:
        """The last score of each seed of a variant."""
        rows = [row for row in self.evals if row['variant'] == variant]
        last = {row['seed']: row['eval/score'] for row in rows}
        return [last[seed] for seed in sorted(last)]


def run(
    request: Request | dict[str, Any],
    *,
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    eval_envs: int | None = None,
    log_to: Sequence[str] = (),
    dry_run: bool = False,
    console: Console | None = None,
) -> Result | None:
    """Loads, trains, evaluates and reports; returns None for a dry run.

    `request` may be a dict of the fields that are asked for explicitly. With `resume` the others
    are those that the run was started with, and what is asked for must agree with it. `eval_envs`
    bounds the simulators side by side and changes no result. Raises UserError before anything is
    compiled where the request cannot be met, and `Stopped` after a stop signal.
    """
    console = console or Console()
    use_compilation_cache()
    asked = {} if isinstance(request, Request) else dict(request)
    if resume:
        if out is None:
            out = make_plan(Request(**asked)).run_dir()
        request = request_of_run(pathlib.Path(out), asked)
    elif not isinstance(request, Request):
        request = Request(**asked)
    plan = make_plan(request)
    run_dir = pathlib.Path(out or plan.run_dir())
    if resume:
        check_same(plan.identity(), read_run(run_dir)['identity'], run_dir)
    elif run_dir.exists() and not dry_run:
        create_run(run_dir, {})  # says what to do, before any data is read
    if eval_envs is not None and eval_envs < 1:
        raise UserError(f'--eval_envs={eval_envs}: must be at least 1')
    console.say(f'dtql_jax {dtql_jax.__version__}: {request.agent} on {plan.task.name}')
    if plan.note:
        console.say(f'note: {plan.note}')
    dataset = data.load(
        plan.task, reward=plan.config.reward, dataset_path=plan.request.dataset_path
    )
    check_env(plan.task, dataset.spec)
    agent = AGENTS[request.agent](dataset.spec, plan.config)
    engine = Engine(agent, dataset.transitions, plan.lanes)
    console.say(data.format_card(dataset.card))
    console.say(describe(plan, engine, run_dir))
    if dry_run:
        return None
    description = {
        'request': dataclasses.asdict(request),
        'identity': plan.identity(),
        'spec': dataclasses.asdict(dataset.spec),
        'data': dataset.card,
        'versions': versions(),
        'devices': [str(d) for d in engine.devices],
    }
    if resume:
        recorded = read_run(run_dir)['data']['fingerprint']
        check_same({'data': dataset.card['fingerprint']}, {'data': recorded}, run_dir)
    else:
        create_run(run_dir, description)
    return _train(plan, engine, dataset, run_dir, resume, eval_envs, log_to, console)


def _train(
    plan: Plan,
    engine: Engine,
    dataset: data.Dataset,
    run_dir: pathlib.Path,
    resume: bool,
    eval_envs: int | None,
    log_to: Sequence[str],
    console: Console,
) -> Result:
    """The part of `run` that needs the run folder."""
    make_env = functools.partial(tasks.make_env, plan.task)
    slots = min(eval_envs or 32, plan.eval_episodes * len(plan.lanes))
    stop = training.StopFlag()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop.listening())
        sinks = tuple(
            stack.enter_context(contextlib.closing(sink))
            for sink in make_sinks(log_to, run_dir, plan.identity())
        )
        pool = stack.enter_context(EnvPool(make_env, slots, choose_workers(make_env, slots)))
        player = Player(plan, engine.agent, pool, stop)
        trainer = training.Trainer(engine, run_dir, player, console, stop, sinks)
        trainer.run(resume)
    evals = read_jsonl(run_dir / 'eval.jsonl')
    diverged = {int(lane): step for lane, step in trainer.cursor.diverged.items()}
    table = score_table(plan.lanes, evals, dataset.card['score'], diverged)
    (run_dir / 'table.txt').write_text(table + '\n')
    curves = plots.plot_curves(run_dir, dataset.card['score'])
    console.say(f'\n{plan.task.name}, {engine.agent.config.steps:,} updates\n\n{table}\n')
    console.say(f'curves {curves}')
    return Result(run_dir, evals, table)


class Player:
    """Evaluates the policies of all lanes: the `evaluate` of a `training.Trainer`."""

    def __init__(self, plan: Plan, agent: Agent, pool: EnvPool, stop: training.StopFlag):
        self.plan = plan
        self.pool = pool
        self.stop = stop
        self.actor = Actor(agent.act, pool.num_envs)

    def __call__(self, acting: Params, lanes: list[int]) -> dict[int, dict[str, float]]:
        """A row of scores for each of `lanes`."""
        rollouts = evaluate(
            self.actor,
            acting,
            [lane.seed for lane in self.plan.lanes],
            self.pool,
            episodes=self.plan.eval_episodes,
            lanes=lanes,
            should_stop=self.stop,
        )
        task = self.plan.task
        scores = statistics.normalised_score(rollouts.returns, task.score_range)
        rows = {}
        for i in lanes:
            rows[i] = {
                'eval/score': float(scores[i].mean()),
                'eval/return': float(rollouts.returns[i].mean()),
                'eval/length': float(rollouts.length[i].mean()),
                'eval/episodes': self.plan.eval_episodes,
            }
            if task.goal != 'none':
                rows[i]['eval/success'] = float(rollouts.success[i].mean())
        return rows


def check_same(ours: dict[str, Any], theirs: dict[str, Any], run_dir: pathlib.Path) -> None:
    """Raises UserError naming the fields in which a run and what is asked for differ."""
    if different := differences(ours, theirs):
        raise UserError(
            f'{run_dir} cannot be resumed with these settings: {"; ".join(different)}. '
            'Drop the flags that differ, or start a new run with another --out'
        )


def check_env(task: tasks.Task, spec: Spec) -> None:
    """Raises UserError where the task's environment does not fit the data."""
    with contextlib.closing(tasks.make_env(task)) as env:
        sizes = {
            'observation': (env.observation_space.shape[0], spec.obs_dim),
            'action': (env.action_space.shape[0], spec.action_dim),
        }
    for what, (simulated, recorded) in sizes.items():
        if simulated != recorded:
            raise UserError(
                f'{task.name}: the environment has {what} size {simulated}, the data {recorded}: '
                'is it the data of another task?'
            )


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user has said where (or not) to."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update('jax_compilation_cache_dir', str(CACHE))


def versions() -> dict[str, str]:
    """Versions of Python, this package and what decides its numbers."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {'python': platform.python_version(), 'dtql_jax': dtql_jax.__version__, **packages}


def describe(plan: Plan, engine: Engine, run_dir: pathlib.Path) -> str:
    """What the run will do: lanes, devices, budget, memory, time, folder."""
    config = plan.config
    seeds: dict[str, list[str]] = {}
    for lane in plan.lanes:
        seeds.setdefault(lane.variant, []).append(str(lane.seed))
    phases = [p for p in engine.agent.phases() if p.steps]
    budget = ', '.join(f'{p.name} {p.steps:,} x {p.batch_size}' for p in phases)
    devices = f'{len(engine.devices)} x {engine.devices[0].device_kind}'
    if unused := len(jax.local_devices()) - len(engine.devices):
        devices += (
            f' ({unused} idle: {len(plan.lanes)} lanes split evenly over {len(engine.devices)}; '
            'choose a multiple of the devices to use all)'
        )
    state = tree_bytes(jax.eval_shape(engine.init))
    train_s, act_s = estimate_seconds(plan, engine)
    rows = {
        'lanes': '; '.join(f'{name} seeds {" ".join(s)}' for name, s in seeds.items()),
        'devices': devices,
        'budget': f'{budget} (updates x batch)',
        'evaluation': f'every {config.eval_every:,} updates, {plan.eval_episodes} episodes a lane',
        'memory': f'{tree_bytes(engine.data) / 2**20:,.0f} MiB data, '
        f'{2 * state / 2**20:,.0f} MiB states',
        'time': f'roughly {duration(train_s)} of training, up to {duration(act_s)} of acting',
        'folder': str(run_dir),
    }
    return '\n'.join(['plan', *(f'  {name:<10} {text}' for name, text in rows.items())])


def tree_bytes(tree: Any) -> int:
    """Bytes of all leaves; a typed key counts as its two words."""
    return sum(
        x.size * (8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)
        for x in jax.tree.leaves(tree)
    )


def estimate_seconds(plan: Plan, engine: Engine) -> tuple[float, float]:
    """Rough seconds of training and, at most, of acting: operations over a measured rate."""
    agent = engine.agent
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    row = jax.tree.map(lambda x: x[0], engine.data)
    train = 0.0
    for phase in agent.phases():
        batch = jax.tree.map(
            lambda x, b=phase.batch_size: jax.ShapeDtypeStruct((b, *x.shape), x.dtype), row
        )
        train += phase.steps * flops(phase.update, state, batch)
    acting = jax.eval_shape(agent.acting, state)
    obs = jax.ShapeDtypeStruct((agent.spec.obs_dim,), jnp.float32)
    evaluations = sum(-(-p.steps // plan.config.eval_every) for p in agent.phases() if p.evaluate)
    steps = evaluations * plan.eval_episodes * (plan.task.horizon or 1000)
    act = steps * flops(agent.act, acting, obs, state.key)
    rate = matmul_rate() * USUAL_EFFICIENCY
    return len(plan.lanes) * train / rate / len(engine.devices), len(plan.lanes) * act / rate


def flops(function: Any, *shapes: Any) -> float:
    """Floating-point operations of a function, counted by the compiler without compiling it."""
    analysis = jax.jit(function).lower(*shapes).cost_analysis()
    return float((analysis or {}).get('flops', 0.0))


def matmul_rate(n: int = 1024, repeats: int = 5) -> float:
    """The best of a few float32 products of `[n, n]` matrices on the first device, in FLOP/s."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


def blank_engine(agent: Agent, lanes: Sequence[Lane]) -> Engine:
    """An engine without data, to lay out the arrays of a checkpoint; on the first device."""
    spec = agent.spec
    shapes = [(1, spec.obs_dim), (1, spec.action_dim), (1,), (1,), (1, spec.obs_dim)]
    blank = dtql_jax.types.Transition(*[np.zeros(shape, np.float32) for shape in shapes])
    return Engine(agent, blank, lanes, devices=jax.local_devices()[:1])
