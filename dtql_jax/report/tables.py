"""Scores as text tables."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dtql_jax.report.statistics import summarise
from dtql_jax.types import Lane


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligns the columns of `rows`, the first of which is the heading, and underlines the heading.

    The first column is aligned to the left, the others to the right.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        return '  '.join(cells).rstrip()

    return '\n'.join([line(rows[0]), '  '.join('-' * w for w in widths), *map(line, rows[1:])])


def score_table(
    lanes: Sequence[Lane],
    evals: Sequence[dict[str, Any]],
    behaviour: float | str | None,
    diverged: dict[int, int],
) -> str:
    """Shows the last and the best score of every variant over its seeds.

    Below five seeds it shows the score of each seed, from five on the IQM with its 95 % bootstrap
    interval. A best score is the highest of a run's evaluations, and so biased upwards.

    Args:
        lanes: all lanes of the run.
        evals: the rows of `eval.jsonl`.
        behaviour: the score of the data's policy, or why it has none; None leaves its row out.
        diverged: the update at which a lane diverged, by the lane's index.
    """
    heading = (
        '', 'seeds', 'last: each seed or IQM [95 %]', 'mean', 'best', 'mean of best', 'success',
    )  # fmt: skip
    rows = [heading, *_behaviour_row(behaviour, len(heading))]
    for variant in _variants(lane.variant for lane in lanes):
        mine = {i: lane.seed for i, lane in enumerate(lanes) if lane.variant == variant}
        rows.append(_score_row(variant, mine, evals, diverged))
    text = table(rows) + _failures(evals, lasts_only=True)
    for i, step in diverged.items():
        text += f'\n{lanes[i].variant} seed {lanes[i].seed}: diverged at update {step:,}'
    return text


def evaluation_table(rows: Sequence[dict[str, Any]], behaviour: float | str | None) -> str:
    """Shows the scores of one evaluation, over seeds as `score_table` does.

    Args:
        rows: one row for each variant and seed, as in `eval.jsonl`.
        behaviour: the score of the data's policy, or why it has none; None leaves its row out.
    """
    names = ('return', 'length', 'success')
    extra = [name for name in names if any(f'eval/{name}' in row for row in rows)]
    heading = ('', 'seeds', 'score: each seed or IQM [95 %]', 'mean', *extra)
    lines = [heading, *_behaviour_row(behaviour, len(heading))]
    for variant in _variants(row['variant'] for row in rows):
        mine = [row for row in rows if row['variant'] == variant]
        scores = [row.get('eval/score', np.nan) for row in mine]
        cells = [_known_mean(mine, f'eval/{name}', 1 + (name == 'success')) for name in extra]
        lines.append((variant, str(len(mine)), _spread(scores), _mean(scores), *cells))
    return table(lines) + _failures(rows)


def _score_row(
    variant: str,
    seeds: dict[int, int],
    evals: Sequence[dict[str, Any]],
    diverged: dict[int, int],
) -> tuple[str, ...]:
    """A variant's row of `score_table`; `seeds` holds the seed of each of its lanes, by index."""
    runs = {
        i: [row for row in evals if row['variant'] == variant and row['seed'] == seed]
        for i, seed in seeds.items()
    }
    last = [
        run[-1].get('eval/score', np.nan) if run and i not in diverged else np.nan
        for i, run in runs.items()
    ]
    known = [[row['eval/score'] for row in run if 'eval/score' in row] for run in runs.values()]
    best = [max(scores, default=np.nan) for scores in known]
    success = _known_mean([run[-1] for run in runs.values() if run], 'eval/success', 2)
    if not any(runs.values()):
        return (variant, str(len(seeds)), 'no evaluation', *['-'] * 3, '')
    return (
        variant,
        str(len(seeds)),
        _spread(last),
        _mean(last),
        _spread(best),
        _mean(best),
        '' if success == '-' else success,
    )


def _known_mean(rows: Sequence[dict[str, Any]], key: str, digits: int) -> str:
    """The mean over the rows that have the key; '-' where none has."""
    known = [row[key] for row in rows if key in row]
    return f'{np.mean(known):.{digits}f}' if known else '-'


def _failures(rows: Sequence[dict[str, Any]], lasts_only: bool = False) -> str:
    """A line for each evaluation that failed, or for each lane whose last one did."""
    if lasts_only:
        rows = list({(row['variant'], row['seed']): row for row in rows}.values())
    return ''.join(
        f'\n{row["variant"]} seed {row["seed"]}: the evaluation at update {row["step"]:,} failed: '
        f'{row["eval/failed"]}'
        for row in rows
        if 'eval/failed' in row
    )


def _behaviour_row(behaviour: float | str | None, columns: int) -> list[tuple[str, ...]]:
    """The row of the data's policy, with its score or a text in the fourth column, if any."""
    if behaviour is None:
        return []
    score = behaviour if isinstance(behaviour, str) else f'{behaviour:.1f}'
    return [('behaviour (data)', '', '', score, *[''] * (columns - 4))]


def _variants(names: Iterable[str]) -> list[str]:
    """The variants without repetition, last first: a run's clone stands above its agent."""
    return list(reversed(dict.fromkeys(names)))


def _spread(scores: Sequence[float]) -> str:
    """The score of each seed, or the IQM with its interval."""
    summary = summarise(scores)
    if 'interval' in summary:
        low, high = summary['interval']
        return f'{summary["iqm"]:.1f} [{low:.1f}, {high:.1f}]'
    return ' '.join('-' if v is None else f'{v:.1f}' for v in summary['values'])


def _mean(scores: Sequence[float]) -> str:
    """The mean over the seeds that have a score."""
    mean = summarise(scores)['mean']
    return '-' if mean is None else f'{mean:.1f}'
