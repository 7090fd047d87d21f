"""What a report is about: the lanes of all runs, named and grouped by task and agent.

A lane's agent is labelled with what tells it from the others of its task: `dtql`,
`dtql alpha=0.5`, `dtql hidden=512`, `dtql clone`. Settings that are the same for all lanes of an
agent on a task are not part of the label, even where they differ between tasks.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.studies.results import RunRecord
from dtql_jax.studies.status import JobStatus
from dtql_jax.tasks.task import recorded_fields

CLONE = 'clone'


@dataclasses.dataclass(frozen=True, eq=False)
class LaneResult:
    """A lane of a run with all that it scored.

    Attributes:
        run: the number of its run among the records.
        task: the label of its task.
        agent: the label of its agent, with the settings that tell it from others.
        base: the name of the agent alone.
        seed: its seed.
        settings: all its settings, and the run that it started from as `init_from`.
        steps: the updates at which it was evaluated, `[E]`.
        scores: its scores there, `[E]`; NaN where the evaluation failed.
        episodes: the scores of the episodes of its last evaluation; empty where not known.
        success: the share of successes of its last evaluation; NaN where not known.
        failed: why its last evaluation failed; '' where it did not.
        diverged_at: the update at which it was given up; None where it was not.
        end: the update at which its run ends; None where that is not known.
    """

    run: int
    task: str
    agent: str
    base: str
    seed: int
    settings: Mapping[str, Any]
    steps: np.ndarray
    scores: np.ndarray
    episodes: np.ndarray
    success: float
    failed: str
    diverged_at: int | None
    end: int | None

    @property
    def halfway(self) -> bool:
        """Whether its newest evaluation is known to be before the end of its run."""
        return self.end is not None and len(self.steps) > 0 and self.steps[-1] < self.end

    @property
    def last(self) -> float:
        """The score at the end; NaN where it diverged, is not there, or the evaluation failed."""
        ended = self.diverged_at is None and len(self.scores) > 0 and not self.halfway
        return self.scores[-1] if ended else math.nan

    @property
    def best(self) -> float:
        """The highest score of all evaluations, biased upwards; NaN where it has none."""
        known = self.scores[~np.isnan(self.scores)]
        return float(known.max()) if len(known) else math.nan


@dataclasses.dataclass(frozen=True)
class Results:
    """All that a report shows.

    Attributes:
        title: the name of the study or of the runs.
        records: the runs.
        lanes: their lanes.
        twice: lanes that were left out, as others have the same task, agent and seed.
        statuses: the states of the study's jobs; empty for runs without a study.
        groups: the lanes of each task and agent.
        pools: the lanes of each task and agent, whatever their settings.
        tasks: the labels of the tasks.
        agents: the labels of the agents.
        places: the place of each agent, with and without settings, among the lines of charts.
    """

    title: str
    records: Sequence[RunRecord]
    lanes: Sequence[LaneResult]
    twice: Sequence[LaneResult]
    statuses: Sequence[JobStatus] = ()

    def __post_init__(self) -> None:
        groups: dict[tuple[str, str], list[LaneResult]] = {}
        pools: dict[tuple[str, str], list[LaneResult]] = {}
        for lane in self.lanes:
            groups.setdefault((lane.task, lane.agent), []).append(lane)
            pools.setdefault((lane.task, lane.base), []).append(lane)
        names = dict.fromkeys([lane.base for lane in self.lanes])
        names |= dict.fromkeys([lane.agent for lane in self.lanes])
        fields = {
            'groups': groups,
            'pools': pools,
            'tasks': tuple(dict.fromkeys(task for task, _ in groups)),
            'agents': tuple(dict.fromkeys(agent for _, agent in groups)),
            'places': {name: place for place, name in enumerate(names)},
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    groups: Mapping[tuple[str, str], list[LaneResult]] = dataclasses.field(init=False)
    pools: Mapping[tuple[str, str], list[LaneResult]] = dataclasses.field(init=False)
    tasks: tuple[str, ...] = dataclasses.field(init=False)
    agents: tuple[str, ...] = dataclasses.field(init=False)
    places: Mapping[str, int] = dataclasses.field(init=False)

    def task_of(self, label: str) -> Mapping[str, Any]:
        """The task of a label, as the first of its runs has it."""
        lane = next(lane for lane in self.lanes if lane.task == label)
        return self.records[lane.run].config['identity']['task']

    def scored(self, label: str) -> bool:
        """Whether a task has a score; its values are returns otherwise."""
        return self.task_of(label)['score_range'] is not None

    def last_scores(self, agent: str, tasks: Sequence[str]) -> list[np.ndarray]:
        """The last scores of an agent on those of the tasks where a seed has one, `[S]` each."""
        columns = []
        for task in tasks:
            scores = np.array([lane.last for lane in self.groups.get((task, agent), [])])
            if (~np.isnan(scores)).any():
                columns.append(scores[~np.isnan(scores)])
        return columns


def gather(title: str, records: Iterable[RunRecord], statuses: Sequence[JobStatus] = ()) -> Results:
    """The lanes of all runs, labelled. Of each record the results of episodes are let go."""
    thin, lanes = [], []
    for number, record in enumerate(records):
        lanes += _lanes(number, record)
        thin.append(dataclasses.replace(record, evals=_rounds(record)))
    tasks = _task_labels(thin)
    lanes = [dataclasses.replace(lane, task=tasks[lane.run]) for lane in lanes]
    lanes = _agent_labels(lanes, thin)
    seen: dict[tuple[str, str, int], LaneResult] = {}
    twice = []
    for lane in lanes:
        if seen.setdefault((lane.task, lane.agent, lane.seed), lane) is not lane:
            twice.append(lane)
    return Results(title, thin, list(seen.values()), twice, statuses)


def data_of(record: RunRecord) -> dict[str, Any]:
    """What the task of a run is beside its name: data by their names, goal and measure."""
    request = record.config['request']
    task = recorded_fields(record.config['identity']['task'])
    own = request['dataset_path'] or ('arrays' if own_data(record) else None)
    return {
        'source': task['source'],
        'data': own or ' + '.join(Path(name).name for name in task['datasets']),
        'goal': task['goal'],
        'success_ends': task['success_ends'],
        'success_timing': task['success_timing'],
        'rescale_actions': task['rescale_actions'],
        'horizon': task['horizon'],
    }


def own_data(record: RunRecord) -> bool:
    """Whether a run took data that its user gave."""
    given = record.config['request']['dataset_path'] is not None
    return given or record.config['data']['source'] == 'arrays'


def _task_labels(records: Sequence[RunRecord]) -> list[str]:
    """A label for the task of each run: its name, and what differs between tasks of that name."""
    names = [record.config['identity']['task']['name'] for record in records]
    kinds: dict[str, list[dict[str, Any]]] = {}
    found = [data_of(record) for record in records]
    for name, kind in zip(names, found, strict=True):
        if kind not in kinds.setdefault(name, []):
            kinds[name].append(kind)
    labels = []
    for name, kind in zip(names, found, strict=True):
        differ = [
            f'{field}={value}'
            for field, value in kind.items()
            if any(other[field] != value for other in kinds[name])
        ]
        labels.append(' '.join([name, *differ]))
    return labels


def _rounds(record: RunRecord) -> list[dict[str, Any]]:
    """A row for each evaluation of a run, all lanes together, without the lists of episodes."""
    rows = {
        row['step']: {name: value for name, value in row.items() if not isinstance(value, list)}
        for row in record.evals
    }
    return list(rows.values())


def _lanes(number: int, record: RunRecord) -> list[LaneResult]:
    """The lanes of a run. They have no task yet, and their agent is their variant."""
    identity = record.config['identity']
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in record.evals:
        rows.setdefault((str(row['variant']), row['seed']), []).append(row)
    lanes = []
    for i, lane in enumerate(record.lanes):
        mine = rows.get((lane.variant, lane.seed), [])
        last = mine[-1] if mine else {}
        episodes = last.get('episode/score', last.get('episode/return', ()))
        clone = lane.variant == CLONE
        lanes.append(
            LaneResult(
                run=number,
                task='',
                agent=lane.variant,
                base=f'{identity["agent"]} {CLONE}' if clone else identity['agent'],
                seed=lane.seed,
                settings={**record.settings(i), 'init_from': _origin(record)},
                steps=np.array([row['step'] for row in mine], int),
                scores=np.array([row.get('eval/score', np.nan) for row in mine], float),
                episodes=np.array(episodes, float),
                success=last.get('eval/success', math.nan),
                failed=last.get('eval/failed', ''),
                diverged_at=record.diverged.get(i),
                end=record.end,
            )
        )
    return lanes


def _origin(record: RunRecord) -> str | None:
    """The run whose networks a run started from; None where it has networks of its own."""
    origin = record.config['identity'].get('init_from')
    return origin and f'{Path(origin["run"]).name}:{origin["sha256"][:8]}'


def _agent_labels(lanes: Sequence[LaneResult], records: Sequence[RunRecord]) -> list[LaneResult]:
    """The lanes with the labels of their agents."""
    swept = swept_settings(lanes)
    labelled = []
    for lane in lanes:
        agent = records[lane.run].config['identity']['agent']
        variant = '' if lane.agent in (agent, CLONE) else lane.agent
        told = _told(lane, records[lane.run])
        more = [
            f'{name}={shown(lane.settings[name])}'
            for name in swept.get((lane.task, lane.base), {})
            if name not in told
        ]
        label = ' '.join([lane.base, *([variant] if variant else []), *more])
        labelled.append(dataclasses.replace(lane, agent=label))
    return labelled


def _told(lane: LaneResult, record: RunRecord) -> set[str]:
    """The settings that the variant of a lane stands for."""
    return {name for other in record.lanes if other.variant == lane.agent for name in other.hparams}


def swept_settings(lanes: Sequence[LaneResult]) -> dict[tuple[str, str], dict[str, list[Any]]]:
    """The settings that differ between the lanes of an agent on a task, with their values."""
    values: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for lane in lanes:
        mine = values.setdefault((lane.task, lane.base), {})
        for name, value in lane.settings.items():
            if value not in mine.setdefault(name, []):
                mine[name].append(value)
    return {
        where: {name: found for name, found in mine.items() if len(found) > 1}
        for where, mine in values.items()
    }


def shown(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f'{value:g}' if isinstance(value, float) else str(value)
