"""The section of a report on selection: the best of many policies under a budget of episodes."""

import numpy as np

from dtql_jax.report.charts import MOST_LINES, Axis, Line, legend, line_chart
from dtql_jax.report.formats import Table
from dtql_jax.report.page import Charts, Note, Part, Section
from dtql_jax.report.selection import Selection, select
from dtql_jax.studies.report_lanes import LaneResult, Results
from dtql_jax.studies.report_scores import UNKNOWN, join, left_out
from dtql_jax.studies.report_training import MOST_PANELS, measure

MOST_POLICIES = 8  # that a trial chooses from
MOST_EPISODES = 200
MOST_BANDS = 3
FEW = 20  # recorded episodes of a policy; with fewer the choice is a coarse one


def selection(results: Results) -> Section | None:
    """What a choice among the policies of an agent gains; None where episodes are not recorded."""
    found = {task: _of_task(results, task) for task in results.tasks}
    rows, charts, drawn = [], [], dict[str, int]()
    tasks = [task for task, mine in found.items() if mine]
    for task in tasks:
        for base, (chosen, every) in found[task].items():
            rows.append((task, base, str(len(every)), str(chosen.policies), *_cells(chosen, every)))
    for i, task in enumerate(tasks[:MOST_PANELS]):
        shown = dict(list(found[task].items())[:MOST_LINES])
        drawn |= {base: results.places[base] for base in shown}
        lines = [
            Line(results.places[base], chosen.episodes, chosen.mean, *_band(chosen, len(shown)))
            for base, (chosen, _) in shown.items()
        ]
        axis = Axis('online episodes', f'{measure(results, task)} of the one kept')
        charts.append(line_chart(f'selection-{i}', task, axis, lines))
    if not rows:
        return None
    heading = (
        'task', 'agent', 'trained', 'choice of', 'mean of all', 'after 1', 'after 10', 'after 50',
        'at the end', 'episodes', 'best mean as recorded',
    )  # fmt: skip
    table = Table('selection', 'Value of the policy that is kept', heading, rows, 'll' + 9 * 'r')
    parts: list[Part] = [
        Charts(charts, legend(drawn)),
        *left_out(tasks, tasks[:MOST_PANELS], 'tasks'),
        table,
        *_warnings(results),
    ]
    return Section('selection', 'The best of several policies', (
        'Whoever trains several seeds and settings of an agent and may play so many episodes '
        'online keeps one policy: a UCB bandit decides which policy plays next, and the one with '
        'the highest mean is kept (after Jackson et al., arXiv:2504.11453). The line is the '
        'expected score of the policy that is kept, told by episodes that did not decide; a band, '
        f'drawn for up to {MOST_BANDS} agents, holds 8 of 10 trials. Where a line rises, the '
        'choice pays; with few recorded episodes it also rises and falls by chance. "Best mean '
        'as recorded" is what a report of the best policy would claim, luck included.'
    ), parts)  # fmt: skip


def _of_task(results: Results, task: str) -> dict[str, tuple[Selection, np.ndarray]]:
    """The selection of each agent of a task and the mean of each of its policies.

    All agents choose from the same number of policies, so that more training is no advantage.
    """
    pools = {
        base: [lane.episodes for lane in lanes if _takes_part(lane)]
        for (where, base), lanes in results.pools.items()
        if where == task
    }
    pools = {base: pool for base, pool in pools.items() if pool}
    if not pools:
        return {}
    policies = min(MOST_POLICIES, *map(len, pools.values()))
    return {
        base: (select(pool, policies, MOST_EPISODES), np.array([x.mean() for x in pool]))
        for base, pool in pools.items()
    }


def _band(chosen: Selection, lines: int) -> tuple[np.ndarray, ...]:
    """The band of a line; none where many bands would hide each other."""
    return (chosen.low, chosen.high) if lines <= MOST_BANDS else ()


def _takes_part(lane: LaneResult) -> bool:
    """Whether a policy has a last score and results of at least two episodes."""
    known = len(lane.episodes) > 1 and bool(np.isfinite(lane.episodes).all())
    return known and not np.isnan(lane.last)


def _cells(chosen: Selection, every: np.ndarray) -> tuple[str, ...]:
    def after(episodes: int) -> str:
        known = episodes <= len(chosen.mean)
        return f'{chosen.mean[episodes - 1]:.1f}' if known else UNKNOWN

    end = len(chosen.mean)
    return (
        f'{every.mean():.1f}', after(1), after(10), after(50), after(end), str(end),
        f'{every.max():.1f}',
    )  # fmt: skip


def _warnings(results: Results) -> list[Note]:
    """Which policies take no part, and where few episodes make the choice coarse."""
    notes = []
    out = [lane for lane in results.lanes if not _takes_part(lane)]
    if out:
        names = [f'{lane.task} {lane.agent} seed {lane.seed}' for lane in out]
        notes.append(Note(
            f'{len(out)} policies take no part, as they have no last score or no results of '
            f'single episodes: {join(names, 6)}.'
        ))  # fmt: skip
    counts = [len(lane.episodes) for lane in results.lanes if _takes_part(lane)]
    if counts and min(counts) < FEW:
        notes.append(Note(
            f'Some policies have {min(counts)} recorded episodes, half of which decide: more '
            'episodes in each evaluation give a finer picture.'
        ))  # fmt: skip
    return notes
