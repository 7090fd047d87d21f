"""`run`: from a request to a trained, evaluated and reported run folder."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from dtql_jax.agents.registry import agent_file
from dtql_jax.collect.write import collect_missing
from dtql_jax.data.card import format_card
from dtql_jax.data.columns import add_columns
from dtql_jax.data.load import Dataset, load, with_dataset
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import check_sinks, make_sinks, read_jsonl
from dtql_jax.report.plots import plot_curves
from dtql_jax.report.tables import score_table
from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.player import Conditions, open_player
from dtql_jax.runs.folder import (
    FORMAT,
    check_new,
    check_not_importing,
    check_same,
    create_run,
    read_run,
    request_of_run,
    restore_agent,
    versions,
)
from dtql_jax.runs.forecast import describe, evaluation_steps
from dtql_jax.runs.plan import Plan, Request, label, make_plan, make_request
from dtql_jax.tasks.env import make_env
from dtql_jax.tasks.task import Task
from dtql_jax.training import checkpoint
from dtql_jax.training.compilation import use_compilation_cache
from dtql_jax.training.engine import Engine
from dtql_jax.training.loop import Trainer
from dtql_jax.training.progress import CHECKPOINTS
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Lane, Spec, Stopped, Transition, UserError


class Interrupted(Stopped):
    """A signal stopped a run, which saved a checkpoint; `run(..., resume=True)` continues it.

    Args:
        run_dir: the folder of the run.
        signal: the number of the signal.
    """

    def __init__(self, run_dir: pathlib.Path, signal: int):
        saved = checkpoint.any_in(run_dir / CHECKPOINTS)
        where = f'with a checkpoint in {run_dir}' if saved else 'before its first checkpoint'
        super().__init__(f'stopped, {where}')
        self.run_dir = run_dir
        self.signal = signal


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run that came to its end.

    Args:
        run_dir: the folder of the run.
        lanes: the training runs, one for each seed of each variant.
        evals: the rows of `eval.jsonl`.
        diverged: the update at which a lane, by its index, was given up.
        table: the scores, as they were printed.
        curves: the picture of the learning curves.
    """

    run_dir: pathlib.Path
    lanes: tuple[Lane, ...]
    evals: list[dict[str, Any]]
    diverged: dict[int, int]
    table: str = ''
    curves: pathlib.Path | None = None

    @property
    def failed(self) -> bool:
        """Whether no lane has a last score: each diverged, or its last evaluation failed."""
        last = {(row['variant'], row['seed']): row for row in self.evals}
        return all(
            i in self.diverged or 'eval/failed' in last.get((lane.variant, lane.seed), {})
            for i, lane in enumerate(self.lanes)
        )

    def scores(self, variant: str) -> list[float]:
        """The last score of each seed of a variant, by seed; NaN where its evaluation failed."""
        rows = [row for row in self.evals if row['variant'] == variant]
        last = {row['seed']: row.get('eval/score', math.nan) for row in rows}
        return [last[seed] for seed in sorted(last)]


def run(
    request: Request | Mapping[str, Any],
    *,
    data: Transition | Mapping[str, Any] | None = None,
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> Result | None:
    """Loads the data, trains and evaluates all seeds in one program, and reports.

    Args:
        request: a `Request`, or a dict of its fields and of settings of the agent and the maze.
            A resumed run keeps what it was started with in all that is not asked for.
        data: transitions as arrays `[N, ...]`, in place of the task's datasets; see
            `dtql_jax.data.arrays`. A resume needs the same arrays.
        out: the run folder; `runs/<env>-<agent>` without.
        resume: continues the run in that folder. It ends with the bits of an undisturbed run.
        dry_run: prints the plan and stops.
        console: prints the progress; to standard output without.

    Returns:
        The result of the run; None for a dry run.

    Raises:
        UserError: the request cannot be met. No program was compiled.
        Interrupted: SIGINT or SIGTERM came. A checkpoint was saved.
    """
    check_not_importing()
    console = console or Console()
    use_compilation_cache()
    plan, run_dir, recorded = _resolve(request, out, resume)
    check_sinks(plan.request.log_to)
    if not (resume or dry_run):
        check_new(run_dir)
    console.say(f'{label(plan.request.agent)} on {plan.task.name}')
    if plan.note:
        console.say(f'note: {plan.note}')
    task, dataset = _load(plan, data, run_dir, recorded)
    check_env(task, dataset.spec)
    engine = Engine(plan.agent(dataset.spec, plan.config), dataset.transitions, plan.lanes)
    dataset = dataclasses.replace(dataset, transitions=engine.data)  # frees the host's copy
    console.say(format_card(dataset.card))
    console.say(describe(plan, engine, run_dir))
    if dry_run:
        return None
    if not resume:
        create_run(run_dir, _description(plan, engine, dataset))
    elif checkpoint.any_in(run_dir / CHECKPOINTS):
        console.say(f'resuming {run_dir}')
    else:
        console.say(f'{run_dir} has no checkpoint yet: starting from the beginning')
    result = _train(plan, engine, task, run_dir, resume, console)
    return _report(result, plan, dataset, console)


def _resolve(
    request: Request | Mapping[str, Any], out: str | pathlib.Path | None, resume: bool
) -> tuple[Plan, pathlib.Path, dict[str, Any] | None]:
    """The plan, the run folder and, of a run that is resumed, its `config.json`."""
    if not (resume and out):
        plan = make_plan(make_request(request))
        out = out or plan.run_dir()
        if not resume:
            return plan, pathlib.Path(out), None
    run_dir = pathlib.Path(out)
    recorded = read_run(run_dir)
    asked = request_of_run(recorded, request)
    if asked.agent == recorded['request']['agent']:
        restore_agent(recorded)
    plan = make_plan(asked)
    check_same(plan.identity(), recorded['identity'], run_dir)
    return plan, run_dir, recorded


def _load(
    plan: Plan,
    data: Transition | Mapping[str, Any] | None,
    run_dir: pathlib.Path,
    recorded: dict[str, Any] | None,
) -> tuple[Task, Dataset]:
    """The task with the dataset that was given, if any, and its data, which a resumed run knows."""
    task, path = plan.task, plan.request.dataset_path
    if path is not None and data is not None:
        raise UserError(f'`dataset_path`={path}: arrays are given as `data` too; keep one')
    if recorded and data is None and recorded['data']['source'] == 'arrays':
        raise UserError(
            f'{run_dir} was trained on arrays: resume it from Python, with the same ones as `data`'
        )
    if path is not None:
        task = with_dataset(task, path)
    dataset = load(task, reward=plan.config.reward, arrays=data, collect=collect_missing)
    if recorded:
        ours, theirs = dataset.card['fingerprint'], recorded['data']['fingerprint']
        check_same({'data': ours}, {'data': theirs}, run_dir)
    return task, add_columns(dataset, plan.agent.columns, plan.config.discount)


def _train(
    plan: Plan,
    engine: Engine,
    task: Task,
    run_dir: pathlib.Path,
    resume: bool,
    console: Console,
) -> Result:
    """Trains and evaluates all lanes in the run folder.

    Raises:
        Interrupted: a signal came.
    """
    agent, asked = engine.agent, plan.request
    console.eval_steps = evaluation_steps(agent)
    overlap = asked.overlap
    if overlap is None:
        overlap = engine.devices[0].platform != 'cpu'
    stop = StopFlag()
    conditions = Conditions(
        plan.eval_episodes,
        asked.eval_envs,
        patience=Patience(asked.eval_timeout, should_stop=stop),
        warn=console.warn,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_interrupted(stop, run_dir))
        stack.enter_context(stop.listening())
        sinks = tuple(
            stack.enter_context(contextlib.closing(sink))
            for sink in make_sinks(asked.log_to, run_dir, plan.identity())
        )
        player = stack.enter_context(open_player(task, agent, plan.lanes, conditions))
        trainer = Trainer(engine, run_dir, player, console, stop, sinks, overlap)
        trainer.run(resume)
    evals = read_jsonl(run_dir / 'eval.jsonl')
    diverged = {int(lane): step for lane, step in trainer.cursor.diverged.items()}
    return Result(run_dir, plan.lanes, evals, diverged)


@contextlib.contextmanager
def _interrupted(stop: StopFlag, run_dir: pathlib.Path) -> Iterator[None]:
    """Says which signal stopped the run."""
    try:
        yield
    except Stopped:
        assert stop.signal is not None  # which is what stops a run
        raise Interrupted(run_dir, int(stop.signal)) from None


def _report(result: Result, plan: Plan, dataset: Dataset, console: Console) -> Result:
    """Draws the curves, and writes and prints the table."""
    behaviour = dataset.card['score']
    table = score_table(plan.lanes, result.evals, behaviour, result.diverged)
    if plan.task.caveat:
        table += f'\nnote: {plan.task.caveat}'
    (result.run_dir / 'table.txt').write_text(table + '\n')
    curves = plot_curves(result.run_dir, behaviour)
    console.say(f'\n{plan.task.name}, {plan.config.steps:,} updates\n\n{table}\n')
    if result.failed:
        diverged = len(result.diverged) == len(result.lanes)
        console.warn(
            'every seed diverged: try a smaller learning rate'
            if diverged
            else 'no seed has a last score: mend the simulator, then evaluate the run again'
        )
    return dataclasses.replace(result, table=table, curves=curves)


def _description(plan: Plan, engine: Engine, dataset: Dataset) -> dict[str, Any]:
    """The content of the run's `config.json`."""
    return {
        'format': FORMAT,
        'request': dataclasses.asdict(plan.request),
        'identity': plan.identity(),
        'agent_file': agent_file(plan.agent),
        'agent_class': plan.agent.__qualname__,
        'spec': dataclasses.asdict(dataset.spec),
        'data': dataset.card,
        'versions': versions(),
        'devices': [str(device) for device in engine.devices],
    }


def check_env(task: Task, spec: Spec) -> None:
    """Raises UserError where the task's environment does not fit the data."""
    with contextlib.closing(make_env(task)) as env:
        sizes = {
            'observation': (env.observation_space.shape, spec.obs_dim),
            'action': (env.action_space.shape, spec.action_dim),
        }
    for what, (shape, recorded) in sizes.items():
        (simulated,) = shape or (0,)
        if simulated != recorded:
            raise UserError(
                f'{task.name}: the environment has {what} size {simulated}, the data {recorded}: '
                'is it the data of another task?'
            )
