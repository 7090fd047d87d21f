"""The sections of a report on the course of training: curves, settings and stability."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.report.charts import Axis, Line, legend, line_chart
from dtql_jax.report.formats import Table
from dtql_jax.report.page import Charts, Part, Section
from dtql_jax.report.statistics import bootstrap_interval, curve, iqm
from dtql_jax.studies.report_lanes import LaneResult, Results, shown, swept_settings
from dtql_jax.studies.report_scores import MOST_CURVES, UNKNOWN, left_out, places_of

MOST_PANELS = 18  # charts of one kind
LAST = 5  # evaluations that stability is about


def curves(results: Results) -> Section | None:
    """Learning curves, a chart for each task; None without evaluations."""
    tasks = [
        task for task in results.tasks
        if any(len(lane.steps) for lane in results.lanes if lane.task == task)
    ]  # fmt: skip
    if not tasks:
        return None
    charts, drawn = [], places_of(results, _best_agents(results, MOST_CURVES))
    for i, task in enumerate(tasks[:MOST_PANELS]):
        agents = [agent for agent in drawn if (task, agent) in results.groups]
        lines = [
            _curve(mine := results.groups[task, agent], drawn[agent], _switch(results, mine))
            for agent in agents
        ]
        axis = Axis('updates', measure(results, task), thousands=True)
        level = _behaviour(results, task)
        title = task if level is None else f'{task} (data {level:.1f})'
        charts.append(line_chart(f'curve-{i}', title, axis, lines, level))
    parts: list[Part] = [
        Charts(charts, legend(drawn)),
        *left_out(tasks, tasks[:MOST_PANELS], 'tasks'),
        *left_out(results.agents, list(drawn), 'agents'),
    ]
    return Section('curves', 'Learning curves', (
        'Scores during training. From five seeds on a line is the IQM over seeds and its band the '
        '95 % bootstrap interval; below five, the mean and the range from the lowest to the '
        'highest seed. A seed that diverged or failed is missing from there on, which can lift '
        f'the line. Of many agents the {MOST_CURVES} with the highest last scores are drawn. The '
        'dashed level, with its score in the title, is the policy that made the data. A dotted '
        'upright line in the colour of an agent marks where it goes on in the environment.'
    ), parts)  # fmt: skip


def sweeps(results: Results) -> Section | None:
    """The score against each setting that was swept; None where there is none."""
    found = swept_settings(results.lanes)
    panels: dict[tuple[str, str], list[tuple[str, list[Any]]]] = {}
    for (task, base), mine in found.items():
        for name in mine:
            panels.setdefault((name, task), []).append((base, mine[name]))
    if not panels:
        return None
    charts, drawn, names = [], dict[str, int](), [f'{name} on {task}' for name, task in panels]
    for i, ((name, task), agents) in enumerate(list(panels.items())[:MOST_PANELS]):
        drawn |= {base: results.places[base] for base, _ in agents}
        values = _ordered([value for _, tried in agents for value in tried])
        axis = _setting_axis(name, values, measure(results, task))
        lines = [
            _sweep_line(results, (task, base, name), values, bool(axis.names)) for base, _ in agents
        ]
        charts.append(line_chart(f'sweep-{i}', task, axis, lines))
    parts: list[Part] = [
        Charts(charts, legend(drawn)),
        *left_out(names, names[:MOST_PANELS], 'charts'),
    ]
    return Section('sweeps', 'Score against settings', (
        'The IQM of the last scores for each value of a setting that was varied, over all seeds '
        'and all values of the other varied settings; bars are 95 % bootstrap intervals, from five '
        'scores on. A setting that works only together with another one shows in the table '
        'of scores, not here.'
    ), parts)  # fmt: skip


def stability(results: Results) -> Section | None:
    """How much the last evaluations of a seed differ; None without two evaluations."""
    rows = []
    for (task, agent), lanes in results.groups.items():
        tails = [tail for lane in lanes if len(tail := _tail(lane)) > 1]
        if not tails:
            continue
        deviation = np.array([np.std(tail, ddof=1) for tail in tails])
        drop = np.array([lane.best - lane.last for lane in lanes])
        drop = drop[~np.isnan(drop)]
        rows.append((
            task,
            agent,
            str(len(tails)),
            f'{deviation.mean():.1f}',
            f'{deviation.max():.1f}',
            f'{np.mean([np.ptp(tail) for tail in tails]):.1f}',
            f'{drop.mean():.1f}' if len(drop) else UNKNOWN,
        ))  # fmt: skip
    if not rows:
        return None
    heading = (
        'task', 'agent', 'seeds', 'deviation, mean', 'deviation, worst seed', 'range',
        'best minus last',
    )  # fmt: skip
    table = Table('stability', f'Spread of the last {LAST} evaluations', heading, rows, 'llrrrrr')
    return Section('stability', 'Stability', (
        f'How much the last {LAST} evaluations of one seed differ from each other: the standard '
        'deviation and the range, means over seeds. High numbers mean that the last score depends '
        'on the moment of the stop. Evaluations of few episodes differ by chance, too.'
    ), [table])  # fmt: skip


def measure(results: Results, task: str) -> str:
    """What the values of a task are."""
    return 'score' if results.scored(task) else 'return (no score)'


def _tail(lane: LaneResult) -> np.ndarray:
    """The last scores of a lane that are known."""
    return lane.scores[~np.isnan(lane.scores)][-LAST:]


def _best_agents(results: Results, most: int) -> list[str]:
    """The agents in their order; of too many those on most tasks with the highest scores."""
    if len(results.agents) <= most:
        return list(results.agents)

    def rank(agent: str) -> tuple[int, float]:
        means = [scores.mean() for scores in results.last_scores(agent, results.tasks)]
        return len(means), float(np.mean(means)) if means else -math.inf

    best = sorted(results.agents, key=rank, reverse=True)[:most]
    return [agent for agent in results.agents if agent in best]


def _switch(results: Results, lanes: Sequence[LaneResult]) -> int | None:
    """The update from which lanes go on in the environment; None where none does."""
    return max(filter(None, (results.records[lane.run].switch for lane in lanes)), default=None)


def _curve(lanes: Sequence[LaneResult], place: int, switch: int | None) -> Line:
    """The line of an agent on a task."""
    steps = np.unique(np.concatenate([lane.steps for lane in lanes]))
    values = np.full((len(lanes), len(steps)), np.nan)
    for row, lane in zip(values, lanes, strict=True):
        row[np.searchsorted(steps, lane.steps)] = lane.scores
    middle, low, high = curve(values)
    known = ~np.isnan(middle)
    band = (low[known], high[known]) if len(lanes) > 1 else (None, None)
    return Line(place, steps[known], middle[known], *band, mark=switch)


def _behaviour(results: Results, task: str) -> float | None:
    """The score of the data's policy; None where it is not known."""
    run = next(lane.run for lane in results.lanes if lane.task == task)
    return results.records[run].config['data'].get('score')


def _ordered(values: Sequence[Any]) -> list[Any]:
    """The values without repetition, numbers by size."""
    unique = list(dict.fromkeys(values))
    return sorted(unique) if all(map(_is_number, unique)) else sorted(unique, key=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setting_axis(name: str, values: Sequence[Any], measured: str) -> Axis:
    """Numbers stand where they are, on a logarithmic scale if far apart; others side by side."""
    if not all(map(_is_number, values)):
        return Axis(name, measured, names=[shown(value) for value in values], points=True)
    wide = values[0] > 0 and values[-1] / values[0] >= 8
    return Axis(name, measured, logarithmic=wide, points=True)


def _sweep_line(
    results: Results, where: tuple[str, str, str], values: Sequence[Any], named: bool
) -> Line:
    """The IQM for each value of a setting, with intervals from five scores on."""
    task, base, name = where
    points = []
    for place, value in enumerate(values):
        tried = [lane for lane in results.pools[task, base] if lane.settings.get(name) == value]
        scores = np.array([lane.last for lane in tried])
        scores = scores[~np.isnan(scores)]
        if len(scores):
            low, high = bootstrap_interval(scores) if len(scores) >= 5 else [iqm(scores)] * 2
            points.append((place if named else float(value), iqm(scores), low, high))
    columns = np.array(points).reshape(-1, 4).T
    return Line(results.places[base], *columns)
