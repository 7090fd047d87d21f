"""The section of a report with published numbers, each with its source."""

from dtql_jax.report.formats import Table
from dtql_jax.report.page import Note, Part, Section
from dtql_jax.studies.published import Found, Published, find
from dtql_jax.studies.report_lanes import Results, own_data
from dtql_jax.studies.report_scores import join

HEADING = (
    'task', 'method', 'score', 'spread is', 'edition of the data', 'selection', 'seeds', 'episodes',
    'source', 'read',
)  # fmt: skip
SIDES = 'llrlllrrll'
NOT_STATED = 'not stated'


def published(results: Results) -> Section:
    """Published numbers for the tasks, those of the same data apart from doubtful ones."""
    found = {task: _found(results, task) for task in results.tasks}
    same = [
        (_row(task, row), f'published-{place}-{i}')
        for place, (task, mine) in enumerate(found.items())
        for i, row in enumerate(mine.same)
    ]
    unstated = [_row(task, row) for task, mine in found.items() for row in mine.unstated]
    parts: list[Part] = [
        Note(f'{task}: {mine.words}.') for task, mine in found.items() if mine.words
    ]
    if same:
        rows, anchors = zip(*same, strict=True)
        caption = 'Published scores of the same edition of the data'
        parts.append(Table('published', caption, HEADING, rows, SIDES, anchors))
    if unstated:
        caption = 'Published scores whose edition of the data is not stated, or doubtful'
        parts.append(Table('published_doubtful', caption, HEADING, unstated, SIDES))
    without = [task for task, mine in found.items() if not mine.same and not mine.unstated]
    if without:
        parts.append(Note(f'No published number is known for: {join(without)}.'))
    return Section('published-scores', 'Published numbers', (
        'What others published for the same tasks, of all methods. Numbers from several sources '
        'stay several. Before you compare, see how a score was chosen (last, best, mean), what its '
        'spread is, and from which edition of the data it comes.'
    ), parts)  # fmt: skip


def _found(results: Results, task: str) -> Found:
    run = next(lane.run for lane in results.lanes if lane.task == task)
    return find(results.task_of(task), own_data(results.records[run]))


def _row(task: str, row: Published) -> tuple[str, ...]:
    return (
        task,
        row.method,
        row.value,
        row.spread_kind or ('not stated' if row.spread else 'none given'),
        row.dataset_version,
        row.selection or NOT_STATED,
        row.seeds or NOT_STATED,
        row.episodes or NOT_STATED,
        row.source,
        row.quoted_by or 'at the source',
    )
