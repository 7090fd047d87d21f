"""`run`: a request, from names to the final table. `experiments/run.py` is its command line."""

import contextlib
import dataclasses
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np

import dtql_jax
from dtql_jax import checkpoint, data, plots, tasks, training
from dtql_jax.agents import AGENTS, Agent
from dtql_jax.console import Console, score_table
from dtql_jax.engine import Engine, Lane
from dtql_jax.evaluation import Stopped
from dtql_jax.forecast import describe, evaluation_steps
from dtql_jax.loggers import check_sinks, make_sinks, read_jsonl
from dtql_jax.plan import (
    Plan,
    Request,
    check_new,
    create_run,
    differences,
    make_plan,
    make_request,
    read_run,
    request_of_run,
    task_with_data,
)
from dtql_jax.player import open_player
from dtql_jax.types import Spec, Transition, UserError

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'minari', 'gymnasium', 'mujoco', 'numpy')
CACHE = pathlib.Path('~/.cache/dtql_jax/xla').expanduser()


class Interrupted(Stopped):
    """A run was stopped by the signal number `signal`; a checkpoint was saved."""

    def __init__(self, run_dir: pathlib.Path, number: int):
        super().__init__(f'stopped, with a checkpoint: go on with --out={run_dir} --resume')
        self.signal = number


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, lanes, evaluation rows, and the table it printed.

    `diverged` says at which update a lane, by its index, was given up.
    """

    run_dir: pathlib.Path
    lanes: tuple[Lane, ...]
    evals: list[dict[str, Any]]
    diverged: dict[int, int]
    table: str

    @property
    def failed(self) -> bool:
        """Whether no lane came through."""
        return len(self.diverged) == len(self.lanes)

    def scores(self, variant: str) -> list[float]:
        """The last score of each seed of a variant."""
        rows = [row for row in self.evals if row['variant'] == variant]
        last = {row['seed']: row['eval/score'] for row in rows}
        return [last[seed] for seed in sorted(last)]


def run(
    request: Request | Mapping[str, Any],
    *,
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    eval_envs: int | None = None,
    log_to: Sequence[str] = (),
    overlap: bool | None = None,
    dry_run: bool = False,
    console: Console | None = None,
) -> Result | None:
    """Loads, trains, evaluates and reports; returns None for a dry run.

    `request` may be a dict of the fields that are asked for explicitly. With `resume` the others
    are those that the run was started with, and what is asked for must agree with it. `eval_envs`
    bounds the simulators side by side. With `overlap` training goes on while episodes are played;
    by default it does on an accelerator. Neither changes a result. Raises UserError before anything
    is compiled where the request cannot be met, and `Interrupted` after a stop signal.
    """
    console = console or Console()
    use_compilation_cache()
    if eval_envs is not None and eval_envs < 1:
        raise UserError(f'--eval_envs={eval_envs}: must be at least 1')
    check_sinks(log_to)
    plan, run_dir = _resolve(request, out, resume)
    if not (resume or dry_run):
        check_new(run_dir)
    console.say(f'dtql_jax {dtql_jax.__version__}: {plan.request.agent} on {plan.task.name}')
    if plan.note:
        console.say(f'note: {plan.note}')
    dataset = data.load(
        plan.task, reward=plan.config.reward, dataset_path=plan.request.dataset_path
    )
    if resume:
        recorded = read_run(run_dir)['data']['fingerprint']
        check_same({'data': dataset.card['fingerprint']}, {'data': recorded}, run_dir)
    task = task_with_data(plan.task, plan.request.dataset_path)
    check_env(task, dataset.spec)
    agent = AGENTS[plan.request.agent](dataset.spec, plan.config)
    engine = Engine(agent, dataset.transitions, plan.lanes)
    dataset = dataclasses.replace(dataset, transitions=engine.data)  # frees the host's copy
    console.say(data.format_card(dataset.card))
    console.say(describe(plan, engine, run_dir))
    if dry_run:
        return None
    if not resume:
        create_run(run_dir, description(plan, engine, dataset))
    elif checkpoint.any_in(run_dir / training.CHECKPOINTS):
        console.say(f'resuming {run_dir}')
    else:
        console.say(f'{run_dir} has no checkpoint yet: starting from the beginning')
    if overlap is None:
        overlap = engine.devices[0].platform != 'cpu'
    result = _train(plan, engine, task, run_dir, resume, eval_envs, log_to, overlap, console)
    return _report(result, plan, dataset, console)


def _resolve(
    request: Request | Mapping[str, Any], out: str | pathlib.Path | None, resume: bool
) -> tuple[Plan, pathlib.Path]:
    """The plan and its run folder; with `resume` those of the run, which must agree."""
    asked = {} if isinstance(request, Request) else dict(request)
    if not isinstance(request, Request):
        request = make_request(asked)
    plan = None
    if not resume or out is None:
        plan = make_plan(request)
        out = out or plan.run_dir()
    run_dir = pathlib.Path(out)
    if resume:
        plan = make_plan(request_of_run(run_dir, asked))
        check_same(plan.identity(), read_run(run_dir)['identity'], run_dir)
    return plan, run_dir


def _train(
    plan: Plan,
    engine: Engine,
    task: tasks.Task,
    run_dir: pathlib.Path,
    resume: bool,
    eval_envs: int | None,
    log_to: Sequence[str],
    overlap: bool,
    console: Console,
) -> Result:
    """The part of `run` that needs the run folder."""
    agent = engine.agent
    console.eval_steps = evaluation_steps(agent)
    stop = training.StopFlag()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop.listening())
        sinks = tuple(
            stack.enter_context(contextlib.closing(sink))
            for sink in make_sinks(log_to, run_dir, plan.identity())
        )
        player = stack.enter_context(
            open_player(task, agent, plan.lanes, plan.eval_episodes, eval_envs, should_stop=stop)
        )
        trainer = training.Trainer(engine, run_dir, player, console, stop, sinks, overlap)
        try:
            trainer.run(resume)
        except Stopped:
            raise Interrupted(run_dir, int(stop.signal)) from None
    evals = read_jsonl(run_dir / 'eval.jsonl')
    diverged = {int(lane): step for lane, step in trainer.cursor.diverged.items()}
    return Result(run_dir, plan.lanes, evals, diverged, '')


def _report(result: Result, plan: Plan, dataset: data.Dataset, console: Console) -> Result:
    """Draws the curves, prints and keeps the table, and says what can be done next."""
    behaviour = dataset.card['score']
    table = score_table(plan.lanes, result.evals, behaviour, result.diverged)
    if plan.task.caveat:
        table += f'\nnote: {plan.task.caveat}'
    run_dir = result.run_dir
    (run_dir / 'table.txt').write_text(table + '\n')
    curves = plots.plot_curves(run_dir, behaviour)
    console.say(f'\n{plan.task.name}, {plan.config.steps:,} updates\n\n{table}\n')
    if result.failed:
        console.warn('every seed diverged: try a smaller learning rate')
    console.say(
        f'folder    {run_dir}\n'
        f'curves    {curves}\n'
        f'evaluate  python experiments/evaluate.py --run={run_dir} --episodes=100\n'
        f"use       policy = dtql_jax.load_policy('{run_dir}'); action = policy(obs)"
    )
    return dataclasses.replace(result, table=table)


def description(plan: Plan, engine: Engine, dataset: data.Dataset) -> dict[str, Any]:
    """What `config.json` records of a run."""
    return {
        'request': dataclasses.asdict(plan.request),
        'identity': plan.identity(),
        'spec': dataclasses.asdict(dataset.spec),
        'data': dataset.card,
        'versions': versions(),
        'devices': [str(d) for d in engine.devices],
    }


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


def blank_engine(agent: Agent, lanes: Sequence[Lane]) -> Engine:
    """An engine without data, to lay out the arrays of a checkpoint; on the first device."""
    spec = agent.spec
    shapes = [(1, spec.obs_dim), (1, spec.action_dim), (1,), (1,), (1, spec.obs_dim)]
    blank = Transition(*[np.zeros(shape, np.float32) for shape in shapes])
    return Engine(agent, blank, lanes, devices=jax.local_devices()[:1])
