"""Scores as text tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.report.statistics import summarise
from dtql_jax.types import Lane


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first a heading, with columns aligned: text to the left, the rest to the right."""
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
    behaviour: float | None,
    diverged: dict[int, int],
) -> str:
    """Last and best score of every variant over its seeds; `evals` are the rows of `eval.jsonl`.

    Below five seeds every seed's value stands in the table, from five on the IQM with its 95 %
    bootstrap interval. A best score is the highest of a run's evaluations, and so biased upwards.
    """
    rows = [
        ('', 'seeds', 'last: each seed or IQM [95 %]', 'mean', 'best', 'mean of best', 'success')
    ]
    if behaviour is not None:
        rows.append(('behaviour (data)', '', '', f'{behaviour:.1f}', '', '', ''))
    for variant in reversed(dict.fromkeys(lane.variant for lane in lanes)):
        mine = [(i, lane) for i, lane in enumerate(lanes) if lane.variant == variant]
        runs = [
            [e for e in evals if e['variant'] == variant and e['seed'] == lane.seed]
            for _, lane in mine
        ]
        last = [
            run[-1]['eval/score'] if run and i not in diverged else np.nan
            for (i, _), run in zip(mine, runs, strict=True)
        ]
        best = [max((e['eval/score'] for e in run), default=np.nan) for run in runs]
        success = [r[-1]['eval/success'] for r in runs if r and 'eval/success' in r[-1]]
        rows.append((
            variant,
            str(len(mine)),
            _spread(last),
            _mean(last),
            _spread(best),
            _mean(best),
            f'{np.mean(success):.2f}' if success else '',
        ))  # fmt: skip
    text = table(rows)
    for i, step in diverged.items():
        text += f'\n{lanes[i].variant} seed {lanes[i].seed}: diverged at update {step:,}'
    return text


def evaluation_table(rows: Sequence[dict[str, Any]], behaviour: float | None) -> str:
    """The scores of one evaluation; `rows` as in `eval.jsonl`, one for each variant and seed.

    As in `score_table`, every seed's score below five seeds, the IQM with its interval from there.
    """
    extra = [name for name in ('return', 'length', 'success') if f'eval/{name}' in rows[0]]
    lines = [('', 'seeds', 'score: each seed or IQM [95 %]', 'mean', *extra)]
    if behaviour is not None:
        lines.append(('behaviour (data)', '', '', f'{behaviour:.1f}', *[''] * len(extra)))
    for variant in reversed(dict.fromkeys(row['variant'] for row in rows)):
        mine = [row for row in rows if row['variant'] == variant]
        scores = [row['eval/score'] for row in mine]
        means = [np.mean([row[f'eval/{name}'] for row in mine]) for name in extra]
        cells = [
            f'{mean:.2f}' if name == 'success' else f'{mean:.1f}'
            for name, mean in zip(extra, means, strict=True)
        ]
        lines.append((variant, str(len(mine)), _spread(scores), _mean(scores), *cells))
    return table(lines)


def _spread(scores: Sequence[float]) -> str:
    summary = summarise(scores)
    if 'interval' in summary:
        low, high = summary['interval']
        return f'{summary["iqm"]:.1f} [{low:.1f}, {high:.1f}]'
    return ' '.join('-' if v is None else f'{v:.1f}' for v in summary['values'])


def _mean(scores: Sequence[float]) -> str:
    mean = summarise(scores)['mean']
    return '-' if mean is None else f'{mean:.1f}'
