"""The sections of a report on scores: by task, over all tasks, profiles, and who beats whom."""

import itertools
from collections.abc import Sequence

import numpy as np

from dtql_jax.report.charts import MOST_LINES, Axis, Line, interval_chart, legend, line_chart
from dtql_jax.report.comparison import (
    improvement_interval,
    performance_profile,
    probability_of_improvement,
    profile_band,
)
from dtql_jax.report.formats import Cell, Link, Links, Table
from dtql_jax.report.page import Charts, Note, Part, Section
from dtql_jax.report.statistics import iqm, stratified_interval, summarise, tells_interval
from dtql_jax.studies.published import METHODS, find
from dtql_jax.studies.report_lanes import LaneResult, Results, own_data

UNKNOWN = '–'
MOST_CURVES = 8  # agents in one chart whose lines can be followed
MOST_PAIRS = 45  # of agents, in the table of probabilities


def scores(results: Results) -> Section:
    """The last and the best score of each agent on each task."""
    heading = (
        'task', 'agent', 'seeds', 'last: IQM [95 %] or each seed', 'mean of last',
        'best: IQM [95 %] or each seed', 'success', 'published, same data', 'runs',
    )  # fmt: skip
    rows = [_score_row(results, task, agent) for task, agent in results.groups]
    words = (
        'The score of the last evaluation of each seed, and apart from it the best of all its '
        'evaluations. From five seeds on a cell is the interquartile mean (IQM) with its 95 % '
        'bootstrap interval over seeds, below five it is the score of each seed. '
        f'{UNKNOWN} stands for what is not known. Seeds as "8 of 10" had a last score; the others '
        'diverged, failed, or are not at their end yet.'
    )
    notes = [Note(
        'The best score is the highest of many noisy evaluations and so biased upwards: compare '
        'last scores. A number in "published" says how it was chosen, with ? for not stated, and '
        'leads to its source.',
    )]  # fmt: skip
    without = [task for task in results.tasks if not results.scored(task)]
    if without:
        notes.append(Note(f'These tasks have no score; their returns are shown: {join(without)}.'))
    if results.twice:
        notes.append(Note(_twice(results.twice), grave=True))
    table = Table('scores', 'Scores by task and agent', heading, rows, 'llrrrrrll')
    return Section('by-task', 'Scores', words, [*notes, table])


def aggregate(results: Results) -> Section | None:
    """The IQM of each agent over all tasks; None with fewer than two tasks that have a score."""
    tasks = scored_tasks(results)
    if len(tasks) < 2:
        return None
    rows, points = [], []
    for agent in results.agents:
        strata = results.last_scores(agent, tasks)
        if not strata:
            rows.append((agent, f'0 of {len(tasks)}', '0', *[UNKNOWN] * 3))
            continue
        whole = len(strata) == len(tasks)
        point, count = iqm(np.concatenate(strata)), sum(map(len, strata))
        means = f'{np.mean([values.mean() for values in strata]):.1f}'
        enough = tells_interval(strata)
        low, high = stratified_interval(strata) if enough else (np.nan, np.nan)
        cells = (f'{point:.1f}', f'[{low:.1f}, {high:.1f}]' if enough else UNKNOWN, means)
        rows.append((agent, f'{len(strata)} of {len(tasks)}', str(count), *cells))
        if whole and enough:
            points.append((agent, point, low, high))
    heading = ('agent', 'tasks', 'scores', 'IQM', '95 % interval', 'mean of task means')
    points = sorted(points, key=lambda row: -row[1])[:MOST_LINES]
    places = places_of(results, [agent for agent, *_ in points])
    marks = [(agent, places[agent], *numbers) for agent, *numbers in points]
    charts = [interval_chart('overall', 'IQM over all tasks', 'score', marks)] if marks else []
    parts: list[Part] = [Charts(charts)] if charts else []
    return Section('overall', 'Over all tasks', (
        'The interquartile mean of the last scores of all seeds on all tasks, with its 95 % '
        'interval; the bootstrap draws the seeds of each task on its own, and needs three on each '
        'and five in all. Only agents with scores on all tasks compare, and only those with an '
        'interval are in the chart.'
    ), [*parts, Table('aggregate', 'IQM over tasks', heading, rows, 'lrrrrr')])  # fmt: skip


def profiles(results: Results) -> Section | None:
    """Performance profiles; None where no agent has scores on all tasks."""
    tasks = scored_tasks(results)
    agents = complete_agents(results, tasks)
    if not agents:
        return None
    drawn = agents[:MOST_CURVES]
    places = places_of(results, drawn)
    strata = {agent: results.last_scores(agent, tasks) for agent in drawn}
    values = np.concatenate([np.concatenate(columns) for columns in strata.values()])
    low, high = np.quantile(values, [0.005, 0.995])
    pad = 0.03 * max(high - low, 1.0)
    thresholds = np.linspace(low - pad, high + pad, 81)
    lines = []
    for agent, columns in strata.items():
        share = performance_profile(columns, thresholds)
        band = profile_band(columns, thresholds) if tells_interval(columns) else ()
        lines.append(Line(places[agent], thresholds, share, *band))
    axis = Axis('score τ', 'share of runs above τ')
    chart = line_chart('profile', 'Performance profile', axis, lines)
    parts = [Charts([chart], legend(places)), *left_out(agents, drawn, 'agents')]
    return Section('profiles', 'Performance profiles', (
        'The share of runs, averaged over tasks, whose last score is above each threshold. A '
        'line that is higher everywhere is better; where lines cross, neither agent is. Bands are '
        '95 % bootstrap intervals, where each task has three seeds and all have five. Of many '
        f'agents the {MOST_CURVES} with the highest IQM are '
        'drawn.'
    ), parts)  # fmt: skip


def improvement(results: Results) -> Section | None:
    """The probability that one agent beats another; None with fewer than two agents."""
    tasks = scored_tasks(results)
    agents = complete_agents(results, tasks)
    if len(agents) < 2:
        return None
    strata = {agent: results.last_scores(agent, tasks) for agent in agents}
    pairs = list(itertools.combinations(agents, 2))
    notes = []
    if len(pairs) > MOST_PAIRS:
        best = agents[0]
        pairs = [(best, agent) for agent in agents[1 : MOST_PAIRS + 1]]
        notes = [Note(
            f'{len(agents)} agents make too many pairs: only {best}, which has the highest IQM, is '
            f'compared, with the next {len(pairs)}.'
        )]  # fmt: skip
    rows = []
    for ours, theirs in pairs:
        chance = probability_of_improvement(strata[ours], strata[theirs])
        verdict, shown = 'undecided: too few seeds', UNKNOWN
        if tells_interval(strata[ours]) and tells_interval(strata[theirs]):
            low, high = improvement_interval(strata[ours], strata[theirs])
            verdict = 'better' if low > 0.5 else 'worse' if high < 0.5 else 'undecided'
            shown = f'[{low:.2f}, {high:.2f}]'
        rows.append((ours, theirs, f'{chance:.2f}', shown, verdict))
    heading = ('agent', 'compared with', 'probability', '95 % interval', 'the first is')
    table = Table('improvement', 'Probability of improvement', heading, rows, 'llrrl')
    return Section('improvement', 'Probability of improvement', (
        'The probability that a run of the first agent scores above a run of the second on the '
        'same task, averaged over tasks; a tie counts as a half. "Undecided" means that the 95 % '
        'interval contains 0.5, or that an agent has fewer than three seeds on a task or five in '
        'all. It says how often one is better, and not by how much.'
    ), [*notes, table])  # fmt: skip


def scored_tasks(results: Results) -> list[str]:
    """The tasks that have a score, and a lane that has one."""
    return [
        task
        for task in results.tasks
        if results.scored(task)
        and any(results.last_scores(agent, [task]) for agent in results.agents)
    ]


def complete_agents(results: Results, tasks: Sequence[str]) -> list[str]:
    """The agents that have a score on all tasks, the highest IQM first."""
    found = {}
    for agent in results.agents:
        strata = results.last_scores(agent, tasks)
        if tasks and len(strata) == len(tasks):
            found[agent] = iqm(np.concatenate(strata))
    return sorted(found, key=lambda agent: -found[agent])


def places_of(results: Results, names: Sequence[str]) -> dict[str, int]:
    """The places of some agents among the lines of charts, which decide their colours.

    They are the same on the whole page, unless it has more agents than can be told apart.
    """
    if all(results.places[name] < MOST_LINES for name in names):
        return {name: results.places[name] for name in names}
    return {name: place for place, name in enumerate(names)}


def left_out(every: Sequence[str], kept: Sequence[str], what: str) -> list[Part]:
    """A note about what a chart leaves out, if anything."""
    rest = [name for name in every if name not in kept]
    if not rest:
        return []
    text = f'{len(kept)} of {len(every)} {what} are drawn; the tables have all. Left out: '
    return [Note(f'{text}{join(rest)}.')]


def join(names: Sequence[str], most: int = 12) -> str:
    """The names with commas, cut to the first of many."""
    more = [f'and {len(names) - most} more'] if len(names) > most else []
    return ', '.join([*names[:most], *more])


def spread(values: Sequence[float]) -> str:
    """The score of each seed, or the IQM with its interval from five seeds on."""
    summary = summarise(values)
    if 'interval' in summary:
        low, high = summary['interval']
        return f'{summary["iqm"]:.1f} [{low:.1f}, {high:.1f}]'
    return ' '.join(UNKNOWN if v is None else f'{v:.1f}' for v in summary['values'])


def _score_row(results: Results, task: str, agent: str) -> tuple[Cell, ...]:
    lanes = sorted(results.groups[task, agent], key=lambda lane: lane.seed)
    last = [lane.last for lane in lanes]
    known = [score for score in last if not np.isnan(score)]
    success = [lane.success for lane in lanes if not np.isnan([lane.success, lane.last]).any()]
    runs = dict.fromkeys(lane.run for lane in lanes)
    return (
        task,
        agent,
        f'{len(known)} of {len(lanes)}',
        spread(last),
        f'{np.mean(known):.1f}' if known else UNKNOWN,
        spread([lane.best for lane in lanes]),
        f'{np.mean(success):.2f}' if success else UNKNOWN,
        _published(results, task, lanes[0]),
        Links(
            tuple(Link(results.records[run].job, f'run-{run}', f'run {run + 1}') for run in runs)
        ),
    )


def _published(results: Results, task: str, lane: LaneResult) -> Cell:
    """The published numbers of the same method on the same data, with links to their rows."""
    found = find(results.task_of(task), own_data(results.records[lane.run]))
    method = METHODS.get(lane.base)
    place = results.tasks.index(task)
    links = [
        Link(f'{row.value} ({row.chosen})', f'published-{place}-{i}')
        for i, row in enumerate(found.same)
        if row.method == method
    ]
    return Links(tuple(links)) if links else UNKNOWN


def _twice(lanes: Sequence[LaneResult]) -> str:
    names = join([f'{lane.task} {lane.agent} seed {lane.seed}' for lane in lanes], 6)
    return (
        f'{len(lanes)} lanes have the same task, agent and seed as others, so that they are no '
        f'independent seeds; only the first of each is counted. Left out: {names}.'
    )
