"""The preparation of a study, in a process of its own: the driver must never hold a GPU.

The process loads the data of each task, which collects or downloads what is absent once, before
several jobs do so at a time. It looks at the simulators and the devices, and predicts the memory
and the time of each job from shapes. Nothing is compiled but one product of matrices.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dtql_jax.agents.registry import agent_file
from dtql_jax.collect.write import collect_missing
from dtql_jax.data.chunks import chunked
from dtql_jax.data.columns import add_columns, one_row
from dtql_jax.data.load import Dataset, load, with_dataset
from dtql_jax.data.memory import available
from dtql_jax.rollout.patience import Patience
from dtql_jax.runs.forecast import estimate_seconds, new_bytes, tree_bytes
from dtql_jax.runs.plan import Plan, make_plan, make_request
from dtql_jax.studies.folder import Job, StudyPlan, read_json, write_whole
from dtql_jax.studies.job import watch_driver
from dtql_jax.studies.launch import DRIVER_PIPE, Machine
from dtql_jax.studies.plan import import_modules
from dtql_jax.tasks.env import check_env
from dtql_jax.training.compilation import start_jax
from dtql_jax.training.engine import Engine
from dtql_jax.types import Spec, UserError, machine_told, why

USABLE = 0.9  # the share of the free memory that the states and a batch may take


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a job takes on one device.

    Args:
        shared: bytes of the data and of a batch, whatever the number of lanes.
        lane: bytes of one lane more.
        free: bytes that the job can have; None where nothing tells.
        seconds: of one lane, trained and evaluated.
    """

    shared: int
    lane: int
    free: int | None
    seconds: float

    def bytes(self, lanes: int) -> int:
        """What the data, the states and a batch take, at least."""
        return self.shared + lanes * self.lane

    def most(self) -> int | None:
        """How many lanes fit; None where nothing tells."""
        if self.free is None:
            return None
        return max(0, int((USABLE * self.free - self.shared) / self.lane))


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a preparation found: the devices, and what each job takes, by its name."""

    machine: Machine
    needs: Mapping[str, Needs]


def prepare(plan: StudyPlan, jobs: Sequence[Job], side_by_side: int, forecast: bool) -> Prepared:
    """Prepares jobs in a process of its own.

    Args:
        plan: the plan of their study, which names the user's modules.
        jobs: the jobs that are to run.
        side_by_side: how many jobs share a device.
        forecast: whether the memory and the time of each job are predicted too.

    Raises:
        UserError: data are absent or wrong, a simulator does not work, or jax does not start.
    """
    asked = {
        'jobs': [dataclasses.asdict(job) for job in jobs],
        'modules': plan.study.get('modules', []),
        'folder': plan.folder,
        'side_by_side': side_by_side,
        'forecast': forecast,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'prepare.json')
        path.write_text(json.dumps(asked))
        command = [sys.executable, '-m', 'dtql_jax.studies.prepare', str(path)]
        usual = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
        environment = {**usual, **os.environ, DRIVER_PIPE: '1'}  # it ends where this process dies
        # What it prints, such as of a collection, is no part of this process's output.
        # Ctrl-C reaches this process alone, and the end of stdin the other one: no traceback.
        pipes: dict[str, Any] = {'stdin': subprocess.PIPE, 'stdout': 2, 'start_new_session': True}
        with subprocess.Popen(command, env=environment, **pipes) as child:
            code = child.wait()
        if code < 0:
            raise UserError(
                f'the preparation was killed by signal {-code} (memory?): close other programs'
            )
        if code:
            raise RuntimeError(f'the preparation ended with exit code {code}')
        found = read_json(path, 'free the disk of temporary files')
    if 'error' in found:
        raise UserError(found['error'])
    needs = {name: Needs(**fields) for name, fields in found['needs'].items()}
    return Prepared(Machine(**found['machine']), needs)


def main(path: str) -> int:
    """Reads what is asked from a file and writes the answer into it; returns the exit code."""
    watch_driver()
    try:
        asked = json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:  # its driver was stopped before this began, and took the file away
        return 130
    try:
        with machine_told():
            answer = _prepared(asked)
    except UserError as error:
        answer = {'error': str(error)}
    except KeyboardInterrupt:
        return 130
    write_whole(pathlib.Path(path), json.dumps(answer))
    return 0


def _prepared(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Prepared`."""
    sys.path.append(asked['folder'])
    import_modules(asked['modules'])
    start_jax()
    devices = jax.local_devices()
    platform, kind = devices[0].platform, devices[0].device_kind
    # A CPU is one device with all its cores, whatever XLA_FLAGS makes of it.
    machine = Machine(platform, 1 if platform == 'cpu' else len(devices), kind)
    plans = {job['name']: make_plan(make_request(job['request'])) for job in asked['jobs']}
    needs = _all_needs(plans, asked['side_by_side'] if asked['forecast'] else None)
    return {
        'machine': dataclasses.asdict(machine),
        'needs': {name: dataclasses.asdict(found) for name, found in needs.items()},
    }


def _all_needs(plans: Mapping[str, Plan], side_by_side: int | None) -> dict[str, Needs]:
    """What each job takes. The data of one task are loaded once, and only they are in memory.

    Args:
        plans: the plan of each job.
        side_by_side: how many jobs share a device; None: only the data are looked at.

    Raises:
        UserError: data are absent or wrong; it names all tasks that lack theirs.
    """
    groups: dict[str, dict[str, Plan]] = {}
    for name, plan in plans.items():
        groups.setdefault(_data_key(plan), {})[name] = plan
    needs: dict[str, Needs] = {}
    errors: dict[str, str] = {}
    for group in groups.values():
        first = next(iter(group.values()))
        try:
            dataset = _load(first)
        except UserError as error:
            errors.setdefault(first.task.name, str(error))
            continue
        if side_by_side is not None:
            needs |= {name: _needs(plan, dataset, side_by_side) for name, plan in group.items()}
    if len(errors) > 1:
        texts = '; '.join(f'{name}: {error}' for name, error in errors.items())
        raise UserError(f'{len(errors)} tasks lack their data or simulator: {texts}')
    if errors:
        raise UserError(next(iter(errors.values())))
    return needs


def _data_key(plan: Plan) -> str:
    """Names the data of a job: jobs with one key load the same arrays."""
    columns, horizon_length = plan.agent.columns, plan.config.horizon_length
    discount = plan.config.discount if columns or horizon_length > 1 else None
    key = [dataclasses.asdict(plan.task), plan.request.dataset_path, plan.config.reward]
    # Where nothing is evaluated, no simulator is looked at.
    evaluated = plan.eval_episodes > 0
    return json.dumps([*key, columns, horizon_length, discount, evaluated], default=str)


def _load(plan: Plan) -> Dataset:
    """The data of a job as it will load them, once its simulator is looked at."""
    path = plan.request.dataset_path
    task = plan.task if path is None else with_dataset(plan.task, path)
    dataset = load(task, reward=plan.config.reward, collect=collect_missing)
    if plan.eval_episodes:
        check = functools.partial(check_env, task, dataset.spec)
        Patience(plan.request.eval_timeout).call(check, f'{task.name}: a simulator')
    config = plan.config
    dataset = add_columns(dataset, plan.agent.columns, config.discount)
    return chunked(dataset, config.horizon_length, config.discount)


def _needs(plan: Plan, dataset: Dataset, side_by_side: int) -> Needs:
    """The memory and the time of a job.

    Raises:
        UserError: an agent of the user's own cannot be traced.
    """
    try:
        row, batch, lane, seconds = _of_a_lane(plan, dataset.spec)
    except Exception as error:
        if (file := agent_file(plan.agent)) is None:
            raise
        raise UserError(f'{file}: {why(error)}: mend the agent') from error
    device = jax.local_devices()[0]
    free = available()
    if device.platform != 'cpu':
        free = (device.memory_stats() or {}).get('bytes_limit')
    return Needs(
        shared=(len(dataset.transitions.reward) + batch) * row,
        lane=lane,
        free=None if free is None else free // side_by_side,
        seconds=seconds,
    )


_lanes: dict[str, tuple[int, int, int, float]] = {}


def _of_a_lane(plan: Plan, spec: Spec) -> tuple[int, int, int, float]:
    """Bytes of a row, rows of the largest batch, bytes of a lane, and its seconds.

    Tracing an agent takes a second or so: it is done once for all jobs whose shapes are the same.
    """
    floats = plan.config.floats()
    static = {k: v for k, v in dataclasses.asdict(plan.config).items() if k not in floats}
    asked = [plan.request.agent, static, dataclasses.asdict(spec)]
    key = json.dumps([*asked, plan.eval_episodes, plan.task.horizon])
    if key not in _lanes:
        agent = plan.agent(spec, plan.config)
        row = one_row(spec, plan.agent.columns)
        alone = dataclasses.replace(plan, lanes=plan.lanes[:1])
        engine = Engine(agent, row, alone.lanes, jax.local_devices()[:1])
        batch = max(phase.batch_size for phase in agent.phases())
        seconds = sum(estimate_seconds(alone, engine))
        # An update begins from a copy of the states.
        lane = 2 * tree_bytes(engine.shapes) + new_bytes(engine)
        _lanes[key] = (tree_bytes(row), batch, lane, seconds)
    return _lanes[key]


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
