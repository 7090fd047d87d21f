"""Draws learning curves from the files of a run: one chart per run, or several runs in one chart.

A row of `eval.jsonl` or `metrics.jsonl` is a point: its `step` is the place, its `variant` (such as
'dtql' or 'clone') and `seed` name the line. Thin lines are seeds, thick lines their mean. Bands go
from the lowest to the highest seed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.types import UserError, outside

Rows = list[dict[str, Any]]
Seeds = dict[Any, list[tuple[int, float]]]  # a line of (step, value) per seed

SCORE = 'eval/score'
# The metrics that get a panel first. Others follow in the order of the rows.
MAIN_METRICS = ('critic/loss', 'mu/loss', 'pi/trust_loss', 'pi/q', 'pi/loss')
MAX_PANELS = 4
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
INK, FAINT, SHADE = '#333333', '#D9D9D9', '#F1F1F1'


def plot_curves(run_dir: str | Path, behaviour: float | None = None) -> Path:
    """Draws `curves.png` in a run's folder and returns its path.

    The evaluation scores are on the left, and up to four metrics on the right. The pre-training
    phase is shaded, and a line marks where the run goes on in the environment.

    Args:
        run_dir: the folder with `eval.jsonl` and `metrics.jsonl`; one of them may be missing.
        behaviour: the score of the data's policy, drawn as a horizontal line.

    Raises:
        UserError: the folder has neither file, or the chart cannot be written.
    """
    run_dir = Path(run_dir)
    evals, metrics = _rows(run_dir, 'eval.jsonl'), _rows(run_dir, 'metrics.jsonl')
    if evals is None and metrics is None:
        raise UserError(f'{run_dir} has no eval.jsonl and no metrics.jsonl: name a run folder')
    evals, metrics = evals or [], metrics or []
    keys = _panel_keys(metrics)
    colours = _colours(_variant(row) for row in [*evals, *metrics])

    figure = Figure(figsize=(12.5 if keys else 7, 5), dpi=150, layout='constrained')
    figure.suptitle(run_dir.resolve().name, color=INK, fontsize=13, fontweight='bold')
    left, right = _halves(figure) if keys else (figure, figure)
    scores, panels = left.subplots(), _panels(right, len(keys))
    _draw_scores(scores, evals, colours, behaviour)
    for panel, key in zip(panels, keys, strict=True):
        _draw_metric(panel, metrics, key, colours)
    _finish([scores, *panels], metrics)
    return save(figure, run_dir / 'curves.png')


def plot_runs(
    run_dirs: Sequence[str | Path], out: str | Path, behaviour: float | None = None
) -> Path:
    """Draws the scores of several runs in one chart, mean and range over seeds, and returns `out`.

    Args:
        run_dirs: the folders of the runs.
        out: the chart to write; its suffix is the format.
        behaviour: the score of the data's policy, drawn as a horizontal line.

    Raises:
        UserError: a folder is no run or has no evaluation, or the chart cannot be written.
    """
    lines: dict[str, Seeds] = {}
    for label, run_dir in zip(_labels(run_dirs), run_dirs, strict=True):
        rows = _rows(Path(run_dir), 'eval.jsonl')
        if rows is None:
            raise UserError(f'{run_dir} has no eval.jsonl: name a run folder')
        if not rows:
            raise UserError(
                f'{run_dir} was not evaluated (`eval_episodes`=0), or not yet: leave it out; when '
                'it ends, its losses are in its curves.png'
            )
        variants = _lines(rows, _score_key(rows))
        for variant, seeds in variants.items():
            lines[label if len(variants) == 1 else f'{label}, {variant}'] = seeds

    figure = Figure(figsize=(8, 5), dpi=150, layout='constrained')
    axis = figure.subplots()
    colours = _colours(lines)
    for label, seeds in lines.items():
        _draw_mean(axis, seeds, colours[label], band=True, label=_with_last(label, seeds))
    _draw_behaviour(axis, behaviour)
    _from_zero(axis)
    axis.set_ylabel('score')
    _finish([axis])
    _legend(axis)
    return save(figure, Path(out))


def _halves(figure: Figure) -> Any:
    """The left and the right part of a figure."""
    return figure.subfigures(1, 2, width_ratios=(1, 1.15))


def _panels(figure: Any, count: int) -> list[Axes]:
    """Lays out `count` panels, two in a row."""
    if not count:
        return []
    grid = figure.subplots(math.ceil(count / 2), min(count, 2), squeeze=False)
    for axis in grid.flat[count:]:
        axis.set_axis_off()
    return list(grid.flat[:count])


def _draw_scores(axis: Axes, rows: Rows, colours: dict[str, str], behaviour: float | None) -> None:
    """Draws each seed and the mean over seeds of every variant's scores."""
    key = _score_key(rows)
    axis.set_ylabel(key.removeprefix('eval/'))
    axis.set_title('evaluation: seeds (thin) and their mean', fontsize=10, color=INK, loc='left')
    lines = _lines(rows, key)
    for variant, seeds in lines.items():
        for points in seeds.values() if len(seeds) > 1 else ():
            axis.plot(*zip(*points, strict=True), color=colours[variant], lw=0.9, alpha=0.5)
        label = _with_last(variant, seeds)
        _draw_mean(axis, seeds, colours[variant], marker='o', label=label)
    _draw_behaviour(axis, behaviour)
    _from_zero(axis)
    _legend(axis)
    if not lines:
        axis.text(0.5, 0.5, 'no evaluation', ha='center', color=INK, transform=axis.transAxes)


def _draw_metric(axis: Axes, rows: Rows, key: str, colours: dict[str, str]) -> None:
    """Draws the mean and range of every variant's metric, on a log scale where it spans much."""
    axis.set_title(key, fontsize=10, color=INK, loc='left')
    lines = _lines(rows, key)
    for variant, seeds in lines.items():
        _draw_mean(axis, seeds, colours[variant], band=True, lw=1.6)
    values = [v for seeds in lines.values() for points in seeds.values() for _, v in points]
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 100 * min(finite):
        axis.set_yscale('log')


def _draw_mean(axis: Axes, seeds: Seeds, colour: str, band: bool = False, **style: Any) -> None:
    """Draws the mean over seeds as a line of this style, and with `band` their range."""
    steps, mean, low, high = _over_seeds(seeds)
    if band and len(seeds) > 1:
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    marker = 'o' if len(steps) == 1 else ''  # one point makes no line
    axis.plot(steps, mean, color=colour, **{'lw': 2.2, 'ms': 4, 'marker': marker, **style})


def _draw_behaviour(axis: Axes, behaviour: float | None) -> None:
    """Draws the score of the data's policy as a dashed line, if it is known."""
    if behaviour is not None:
        label = f'behaviour: {behaviour:.1f}'
        axis.axhline(behaviour, color='#7F7F7F', lw=1.4, ls=(0, (5, 3)), label=label)


def _finish(axes: Sequence[Axes], metrics: Sequence[dict[str, Any]] = ()) -> None:
    """Sets the common style and x range, shades the pre-training phase, and marks the switch."""
    pretrained = max((row['step'] for row in metrics if _is_pretraining(row)), default=0)
    switch = _switch(metrics)
    end = max(axis.dataLim.x1 for axis in axes)
    for axis in axes:
        if pretrained:
            axis.axvspan(0, pretrained, color=SHADE, lw=0, zorder=0)
        if switch:
            axis.axvline(switch, color='#999999', lw=1.2, zorder=1)
        if math.isfinite(end) and end > 0:
            axis.set_xlim(0, end * 1.02)
        axis.spines[['top', 'right']].set_visible(False)
        axis.spines[['left', 'bottom']].set_color('#999999')
        axis.tick_params(colors=INK, labelsize=9, length=3)
        axis.grid(axis='y', color=FAINT, lw=0.7)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_formatter(EngFormatter(sep=''))
        axis.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
        axis.xaxis.label.set_color(INK)
        axis.yaxis.label.set_color(INK)
    marks = ['shaded: pre-training'] if pretrained else []
    marks += ['from the line on: in the environment'] if switch else []
    axes[0].set_xlabel(f'updates ({"; ".join(marks)})' if marks else 'updates')


def _from_zero(axis: Axes) -> None:
    """Starts the axis at 0 where all values are above it."""
    if axis.get_ylim()[0] > 0:
        axis.set_ylim(bottom=0)


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=10, labelcolor=INK, loc='best')


def save(figure: Figure, path: Path) -> Path:
    """Writes the chart; raises UserError where that fails."""
    with outside(f'cannot write the chart {path}', 'choose another place or ending'):
        figure.savefig(path)
    return path


def _rows(run_dir: Path, name: str) -> Rows | None:
    """The rows of a run's file, None where the file is missing."""
    path = run_dir / name
    if not path.is_file():
        return None
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not (_is_number(row.get('step')) and isinstance(row.get('seed', 0), int)):
            raise UserError(
                f'{path}, line {number} is no row of a run, which has numbers as step and seed: '
                'mend or delete that line'
            )
    return rows


def _variant(row: dict[str, Any]) -> str:
    return str(row.get('variant', 'policy'))


def _is_pretraining(row: dict[str, Any]) -> bool:
    return str(row.get('phase', '')).startswith('pre')


def _switch(metrics: Sequence[dict[str, Any]]) -> int:
    """The update after which a run goes on in the environment; 0 where it does not."""
    offline = [row['step'] for row in metrics if row.get('phase') != 'online']
    return max(offline, default=0) if len(offline) < len(metrics) else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _score_key(rows: Rows) -> str:
    """The column to draw: the score, or the return where the rows have no score."""
    return SCORE if not rows or any(SCORE in row for row in rows) else 'eval/return'


def _panel_keys(metrics: Rows) -> list[str]:
    """The metrics that get a panel."""
    seen = {key: None for row in metrics for key, value in row.items() if _is_number(value)}
    keys = [key for key in seen if '/' in key and not key.startswith(('time/', 'eval/'))]
    ranks = {key: rank for rank, key in enumerate(MAIN_METRICS)}
    return sorted(keys, key=lambda key: ranks.get(key, len(ranks)))[:MAX_PANELS]


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name."""
    unique = dict.fromkeys(names)
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(unique)}


def _labels(run_dirs: Sequence[str | Path]) -> list[str]:
    """The names of the folders, or their paths where two names are the same."""
    names = [Path(run_dir).resolve().name for run_dir in run_dirs]
    return names if len(set(names)) == len(names) else [str(run_dir) for run_dir in run_dirs]


def _lines(rows: Rows, key: str) -> dict[str, Seeds]:
    """The points of `key`, by variant and seed."""
    lines: dict[str, Seeds] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if _is_number(row.get(key)):
            lines[_variant(row)][row.get('seed', 0)].append((row['step'], row[key]))
    return lines


def _over_seeds(seeds: Seeds) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, and mean, lowest and highest value over the seeds that are finite there."""
    values = defaultdict(list)
    for points in seeds.values():
        for step, value in points:
            values[step].append(value if math.isfinite(value) else math.nan)
    steps = [step for step in sorted(values) if not np.isnan(values[step]).all()]
    mean, low, high = (
        np.array([f(values[s]) for s in steps]) for f in (np.nanmean, np.nanmin, np.nanmax)
    )
    return np.array(steps), mean, low, high


def _with_last(label: str, seeds: Seeds) -> str:
    """The label with the last mean: 'dtql: 81.2'."""
    mean = _over_seeds(seeds)[1]
    return f'{label}: {mean[-1]:.1f}' if len(mean) else label
