"""The sections of a report on its runs: what failed, times, and how to repeat each."""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dtql_jax.agents.registry import AGENTS
from dtql_jax.report.console import duration
from dtql_jax.report.formats import Link, Table
from dtql_jax.report.page import Details, Note, Part, Section
from dtql_jax.runs.plan import Request
from dtql_jax.studies.report_lanes import CLONE, LaneResult, Results, own_data
from dtql_jax.studies.report_scores import UNKNOWN
from dtql_jax.studies.results import RunRecord
from dtql_jax.studies.status import DONE, JobStatus
from dtql_jax.tasks.registry import FILES, OWN, TASKS

NOT_KNOWN = 'not known'
DEFAULT = Request()
FREE = ('env', 'agent', 'settings', 'variants', 'log_to')


def problems(results: Results) -> Section:
    """Lanes that diverged or failed, and jobs that failed or are not done."""
    lanes = [
        (lane.task, lane.agent, str(lane.seed), what, Link(job, f'run-{lane.run}'))
        for lane in results.lanes
        if (what := _trouble(lane, results.records[lane.run]))
        for job in [results.records[lane.run].job]
    ]
    jobs = [
        (job.name, job.state, _progress(job), job.reason or UNKNOWN, job.host or UNKNOWN)
        for job in results.statuses
        if job.state != DONE
    ]
    parts: list[Part] = []
    if lanes:
        heading = ('task', 'agent', 'seed', 'what happened', 'run')
        parts.append(Table('lanes', 'Seeds without a last score', heading, lanes, 'llrll'))
    if jobs:
        heading = ('job', 'state', 'updates', 'reason', 'machine')
        parts.append(Table('jobs', 'Jobs that are not done', heading, jobs, 'llrll'))
    if data := _different_data(results):
        parts.append(Note(data, grave=True))
    if not results.statuses:
        parts.append(Note('The states of jobs are not known: these runs are not read as a study.'))
    if not lanes:
        parts.append(Note('All seeds have a last score.'))
    if results.statuses and not jobs:
        parts.append(Note('All jobs are done.'))
    return Section('problems', 'What failed or is missing', (
        'Seeds that have no last score, and jobs that are not done. The scores above leave them '
        'out: where seeds diverge, an agent looks better than it is.'
    ), parts)  # fmt: skip


def times(results: Results) -> Section:
    """How long runs train and act."""
    heading = (
        'task', 'agent', 'run', 'lanes', 'device', 'updates', 'updates/s', 'run in all',
        'one evaluation', 'ms per step of a lane',
    )  # fmt: skip
    rows = []
    for number, record in enumerate(results.records):
        identity, metrics = record.config['identity'], record.metrics or {}
        seconds = [row['time/eval_s'] for row in record.evals if 'time/eval_s' in row]
        mean = float(np.mean(seconds)) if seconds else math.nan
        rows.append((
            identity['task']['name'],
            identity['agent'],
            Link(record.job, f'run-{number}'),
            str(len(record.lanes)),
            _devices(record),
            f'{metrics["step"]:,}' if metrics else UNKNOWN,
            f'{metrics["time/updates_per_s"]:.1f}' if 'time/updates_per_s' in metrics else UNKNOWN,
            _duration(_in_all(record)),
            _duration(mean),
            _per_step(record),
        ))  # fmt: skip
    table = Table('times', 'Times of runs', heading, rows, 'lllrlrrrrr')
    return Section('times', 'Time', (
        'Updates per second count one update of all lanes together, as last measured. "Run in '
        'all" has training and evaluations, those before a resume too, up to the last row of the '
        'logs. An evaluation contains the simulators; its time for each step and lane is the time '
        'in all divided by steps and lanes, so that lanes that act together share it.'
    ), [table])  # fmt: skip


def repeat(results: Results) -> Section:
    """For each run the commands that repeat it, and what it was made with."""
    lanes: dict[int, list[LaneResult]] = {}
    for lane in [*results.lanes, *results.twice]:
        lanes.setdefault(lane.run, []).append(lane)
    parts = [
        Details(
            f'run-{i}',
            f'run {i + 1}, {_title(record, lanes.get(i, []))}',
            commands(record),
            _facts(record),
        )
        for i, record in enumerate(results.records)
    ]
    return Section('repeat', 'Repeat it', (
        'The command that repeats each run, or one for each variant of a run, with every flag '
        'that differs from its default, and what the run was made with. A variant alone gives the '
        'same numbers as beside others, up to rounding.'
    ), parts)  # fmt: skip


def commands(record: RunRecord) -> list[str]:
    """The command lines that repeat a run, one for each variant, or a comment that says why not."""
    request, task = record.config['request'], record.config['identity']['task']['name']
    if own_data(record) and request['dataset_path'] is None:
        return ['# trained on arrays: repeat it from Python, with the same arrays as `data`']
    lines = []
    if task not in TASKS and not task.startswith((OWN, FILES)):
        lines.append(f'# the task {task} is registered by a module of your own: import it first')
    given = {
        name: value
        for name, value in request.items()
        if name not in FREE and value != getattr(DEFAULT, name, None)
    }
    given |= request['settings']
    agent = _agent(record)
    if agent != request['agent']:
        lines.append(f'# the agent was registered as {request["agent"]}')
    for variant, changes in (request['variants'] or {'': {}}).items():
        if variant:
            lines.append(f'# {variant}')
        flags = {'env': request['env'], 'agent': agent, **given, **changes}
        lines.append(command(flags))
    return lines


def command(flags: Mapping[str, Any]) -> str:
    """The command line that trains with these flags."""
    dashes = 2 * '-'
    texts = [f'{dashes}{name}={_spelled(value)}' for name, value in flags.items()]
    return shlex.join(['dtql', 'train', *texts])


def _spelled(value: Any) -> str:
    """A value as a flag takes it; a float reads back exactly."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _agent(record: RunRecord) -> str:
    """The agent as the command line names it."""
    name, file = record.config['request']['agent'], record.config['agent_file']
    if file is None or ':' in name or name in AGENTS:
        return name
    return f'{file}:{record.config["agent_class"]}'


def _title(record: RunRecord, lanes: Sequence[LaneResult]) -> str:
    names = list(dict.fromkeys(lane.agent for lane in lanes if not lane.base.endswith(CLONE)))
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    task = record.config['identity']['task']['name']
    return f'{record.job}: {", ".join(names[:3])}{more} on {task}'


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """What a run was made with."""
    config, data = record.config, record.config['data']
    task = config['identity']['task']
    seeds = sorted({lane.seed for lane in record.lanes})
    return [
        ('seeds', f'{seeds[0]} to {seeds[-1]}' if len(seeds) > 1 else str(seeds[0])),
        ('lanes', str(len(record.lanes))),
        ('episodes of an evaluation', str(config['identity']['eval_episodes'])),
        ('data', ' + '.join(data['datasets']) or data['source']),
        ('fingerprint of the data', data['fingerprint']),
        ('simulator', data.get('environment') or task['env_id'] or NOT_KNOWN),
        *([('caveat', task['caveat'])] if task['caveat'] else []),
        ('device', _devices(record)),
        ('wall time', _duration(_in_all(record), NOT_KNOWN)),
        ('versions', ', '.join(f'{name} {text}' for name, text in config['versions'].items())),
        ('commit', str(config.get('commit') or NOT_KNOWN)),
        ('settings of the compiler', _pairs(config.get('compiler', {})) or 'defaults'),
    ]


def _pairs(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{name}={value}' for name, value in values.items())


def _devices(record: RunRecord) -> str:
    """The devices of a run, those of a kind together: `4 x cuda`."""
    kinds = [str(device).partition(':')[0] for device in record.config['devices']]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return ', '.join(f'{n} x {kind}' if n > 1 else kind for kind, n in counts.items()) or NOT_KNOWN


def _duration(seconds: float, unknown: str = UNKNOWN) -> str:
    return unknown if math.isnan(seconds) else duration(seconds)


def _in_all(record: RunRecord) -> float:
    """The seconds of a run up to the last row of its logs; NaN where they are not known."""
    metrics = record.metrics or {}
    # An evaluation comes after the row of metrics of its update.
    last = [row for row in record.evals if metrics and row['step'] >= metrics['step']]
    return metrics.get('time/elapsed_s', math.nan) + sum(
        row.get('time/eval_s', math.nan) for row in last
    )


def _per_step(record: RunRecord) -> str:
    """Milliseconds of an evaluation for each step of each lane that was played."""
    rates = [
        1000 * row['time/eval_s'] / (row['eval/length'] * row['eval/episodes'] * len(record.lanes))
        for row in record.evals
        if {'time/eval_s', 'eval/length', 'eval/episodes'} <= row.keys() and row['eval/length']
    ]
    return f'{np.mean(rates):.2f}' if rates else UNKNOWN


def _trouble(lane: LaneResult, record: RunRecord) -> str:
    """Why a lane has no last score; '' where it has one."""
    if lane.diverged_at is not None:
        return f'diverged at update {lane.diverged_at:,}'
    if lane.failed:
        return f'the evaluation at update {lane.steps[-1]:,} failed: {lane.failed}'
    if not len(lane.steps):
        asked = record.config['identity']['eval_episodes']
        return 'not evaluated yet' if asked else 'no evaluation: `eval_episodes` is 0'
    if lane.halfway:
        return f'not at its end: evaluated at update {lane.steps[-1]:,} of {lane.end:,}'
    return 'the last evaluation has no score' if math.isnan(lane.last) else ''


def _progress(status: JobStatus) -> str:
    if status.step is None or status.total is None:
        return UNKNOWN
    return f'{status.step:,} of {status.total:,}'


def _different_data(results: Results) -> str:
    """A sentence about tasks whose runs read different data under one name; '' without."""
    prints: dict[tuple[str, str], set[str]] = {}
    for record, task in _with_tasks(results):
        data = record.config['data']
        where = task, str(data.get('reward_transform'))
        prints.setdefault(where, set()).add(data['fingerprint'])
    tasks = list(dict.fromkeys(task for (task, _), found in prints.items() if len(found) > 1))
    if not tasks:
        return ''
    return (
        f'Runs read different data under the same name (their fingerprints differ) for: '
        f'{", ".join(tasks)}. Their scores do not compare.'
    )


def _with_tasks(results: Results) -> Iterable[tuple[RunRecord, str]]:
    """Each record with the label of its task."""
    labels = {lane.run: lane.task for lane in [*results.twice, *results.lanes]}
    return [(results.records[run], task) for run, task in sorted(labels.items())]
