"""`run`: from a request to a trained, evaluated and reported run folder."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dtql_jax.agents.registry import agent_file
from dtql_jax.collect.write import collect_missing
from dtql_jax.data.card import format_card
from dtql_jax.data.chunks import chunked
from dtql_jax.data.columns import ONLINE, add_columns
from dtql_jax.data.load import Dataset, load, with_dataset
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.report.sinks import Callback, check_callbacks, check_sinks, make_sinks
from dtql_jax.rollout.explorer import Explorer
from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.player import Conditions, open_player, open_pool
from dtql_jax.runs.config_file import FORMAT
from dtql_jax.runs.extend import check_resume, extend
from dtql_jax.runs.folder import (
    check_new,
    check_not_importing,
    check_same,
    check_settings,
    commit,
    create_run,
    read_run,
    request_of_run,
    restore_agent,
    versions,
)
from dtql_jax.runs.forecast import changes, check_memory, describe, evaluation_steps
from dtql_jax.runs.lock import hold
from dtql_jax.runs.origin import Networks, check_origin, take_networks
from dtql_jax.runs.plan import Plan, Request, label, make_plan, make_request
from dtql_jax.runs.result import Interrupted, Result, report
from dtql_jax.tasks.env import check_env
from dtql_jax.tasks.task import Task
from dtql_jax.training.compilation import compiler_settings, start_jax
from dtql_jax.training.engine import Engine
from dtql_jax.training.loop import Trainer
from dtql_jax.training.online import Online
from dtql_jax.training.records import Records, begun
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Stopped, Transition, UserError, lasting_path, machine_told


@machine_told()
def run(
    request: Request | Mapping[str, Any],
    *,
    data: Transition | Mapping[str, Any] | None = None,
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    callbacks: Sequence[Callback] = (),
) -> Result | None:
    """Loads the data, trains and evaluates all seeds in one program, and reports.

    Args:
        request: a `Request`, or a dict of its fields and of settings of the agent and the maze.
            A resumed run keeps what it was started with in all that is not asked for. It may be
            asked for more `steps` or `online_steps`, and for other `eval_every` and
            `eval_episodes`, see `extend`.
        data: transitions as arrays `[N, ...]`, in place of the task's datasets; see
            `dtql_jax.data.arrays`. A resume needs the same arrays.
        out: the run folder; `runs/<env>-<agent>` without.
        resume: continues the run in that folder. It ends with the bits of an undisturbed run.
        dry_run: prints the plan and stops.
        console: prints the progress; to standard output without.
        callbacks: functions that are called with an `Event` after each row of the logs and each
            evaluation, and at the end. One that raises is not called again: a warning says so, and
            the run goes on, with the same bits.

    Returns:
        The result of the run; None for a dry run.

    Raises:
        UserError: the request cannot be met, and no program was compiled; or the machine fails,
            such as a full disk.
        Interrupted: SIGINT or SIGTERM came. A checkpoint was saved.
    """
    check_not_importing()
    console = console or Console()
    start_jax()
    plan, run_dir, recorded = _resolve(request, out, resume)
    check_sinks(plan.request.log_to)
    check_callbacks(callbacks)
    if not (resume or dry_run):
        check_new(run_dir)
    console.say(f'{label(plan.request.agent)} on {plan.task.name}')
    if plan.note:
        console.say(f'note: {plan.note}')
    with contextlib.ExitStack() as stack:
        check, goes_on = None, False  # `check`: that the folder is this process's
        if resume and not dry_run:
            check = stack.enter_context(hold(run_dir, console.warn))
            goes_on = begun(run_dir)
            console.say(
                f'resuming {run_dir}'
                if goes_on
                else f'{run_dir} has no checkpoint yet: starting from the beginning'
            )
        begins = not (goes_on or (resume and dry_run))
        work = _prepare(plan, _load(plan, data, run_dir, recorded), begins)
        plan = work.plan
        console.say(format_card(work.dataset.card))
        console.say(describe(plan, work.engine, run_dir))
        if dry_run:
            return None
        description = _description(work)
        if not (recorded and check):  # a new run
            create_run(run_dir, description)
            check = stack.enter_context(hold(run_dir, console.warn))
            recorded = read_run(run_dir)
        else:
            recorded = extend(plan, recorded, run_dir, console.say)
            if goes_on and (changed := changes(recorded, description)):
                console.warn(changed)
        sinks = make_sinks(plan.request.log_to, run_dir, plan.identity(), console.warn)
        told = [*sinks, *callbacks]
        records = Records(run_dir, recorded, work.engine, told, console.warn, check)
        stack.callback(records.end)
        result = _train(work, records, resume, console)
        return report(result, plan, work.dataset, console)


def _resolve(
    request: Request | Mapping[str, Any], out: str | pathlib.Path | None, resume: bool
) -> tuple[Plan, pathlib.Path, dict[str, Any] | None]:
    """The plan, the run folder and, of a run that is resumed, its `config.json`."""
    if not (resume and out):
        plan = make_plan(make_request(request))
        out = out or plan.run_dir()
        if not resume:
            if plan.request.init_from is not None:
                check_origin(plan)
            return plan, lasting_path('out', out), None
    run_dir = lasting_path('out', out)
    recorded = read_run(run_dir)
    asked = request_of_run(recorded, request)
    if asked.agent == recorded['request']['agent']:
        restore_agent(recorded)
        check_settings(recorded)
    plan = make_plan(asked)
    if asked.init_from is not None:
        origin = recorded['identity'].get('init_from', {})
        plan = dataclasses.replace(plan, origin={**origin, 'run': asked.init_from})
    check_resume(plan, recorded, run_dir)
    return plan, run_dir, recorded


@dataclasses.dataclass(frozen=True)
class _Work:
    """All that a run needs before anything is compiled; `networks` of another run, if any."""

    plan: Plan
    task: Task
    dataset: Dataset  # on the devices
    engine: Engine
    networks: Networks | None


def _prepare(plan: Plan, loaded: tuple[Task, Dataset], begins: bool) -> _Work:
    """Moves the data to the devices and makes the engine; nothing is compiled yet.

    Args:
        plan: what is asked for.
        loaded: the task and its data.
        begins: whether no checkpoint has the run's networks.

    Raises:
        UserError: data and simulator do not match, the lanes do not fit into memory, or the run
            cannot start from the networks of another one.
    """
    task, dataset = loaded
    if plan.eval_episodes or plan.config.online_steps:
        check = functools.partial(check_env, task, dataset.spec)
        Patience(plan.request.eval_timeout).call(check, f'{task.name}: a simulator')
    engine = Engine(plan.agent(dataset.spec, plan.config), dataset.transitions, plan.lanes)
    check_memory(engine)
    networks = None
    if begins and plan.request.init_from is not None:
        plan, networks = take_networks(plan, engine)
    # The host's copy of the data is freed.
    dataset = dataclasses.replace(dataset, transitions=engine.data)
    return _Work(plan, task, dataset, engine, networks)


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
    config = plan.config
    dataset = add_columns(dataset, plan.agent.columns, config.discount)
    return task, chunked(dataset, config.horizon_length, config.discount)


def _train(work: _Work, records: Records, resume: bool, console: Console) -> Result:
    """Trains and evaluates all lanes.

    Raises:
        Interrupted: a signal came.
    """
    plan, engine = work.plan, work.engine
    agent, asked = engine.agent, plan.request
    console.eval_steps = evaluation_steps(agent) if plan.eval_episodes else ()
    overlap = asked.overlap
    if overlap is None:
        overlap = engine.devices[0].platform != 'cpu'
    stop = StopFlag()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_interrupted(stop, records.run_dir))
        stack.enter_context(stop.listening())
        player = online = None
        conditions = Conditions(
            plan.eval_episodes,
            asked.eval_envs,
            patience=Patience(asked.eval_timeout, should_stop=stop),
            warn=console.warn,
        )
        if plan.eval_episodes:
            player = stack.enter_context(open_player(work.task, agent, plan.lanes, conditions))
        if plan.config.online_steps:
            pool = stack.enter_context(open_pool(work.task, len(plan.lanes), conditions))
            across = {name: ONLINE[name] for name in agent.columns}
            reward = work.dataset.reward
            explorer = Explorer(agent, plan.lanes, pool, reward, across, console.warn)
            online = Online(engine, explorer)
        trainer = Trainer(engine, records, player, console, stop, overlap, online)
        trainer.run(resume, work.networks)
    evals = read_jsonl(records.run_dir / 'eval.jsonl')
    diverged = {int(lane): step for lane, step in trainer.cursor.diverged.items()}
    return Result(records.run_dir, plan.lanes, evals, diverged)


@contextlib.contextmanager
def _interrupted(stop: StopFlag, run_dir: pathlib.Path) -> Iterator[None]:
    """Says which signal stopped the run."""
    try:
        yield
    except Stopped:
        assert stop.signal is not None  # which is what stops a run
        raise Interrupted(run_dir, int(stop.signal)) from None


def _description(work: _Work) -> dict[str, Any]:
    """The content of the run's `config.json`."""
    plan, engine, dataset = work.plan, work.engine, work.dataset
    return {
        'format': FORMAT,
        'request': dataclasses.asdict(plan.request),
        'identity': plan.identity(),
        'agent_file': agent_file(plan.agent),
        'agent_class': plan.agent.__qualname__,
        'spec': dataclasses.asdict(dataset.spec),
        'updates_before': sum(phase.steps for phase in engine.agent.phases()[:-1]),
        'data': dataset.card,
        'versions': versions(),
        'commit': commit(),
        'devices': [str(device) for device in engine.devices],
        'compiler': compiler_settings(),
    }
