"""Draws the charts of a report: lines with bands, and points with intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, NullLocator

from dtql_jax.report.plots import FAINT, INK, PALETTE
from dtql_jax.report.vector import to_svg, variable

DASHES = ('solid', (0, (5, 2)), (0, (1, 1.5)))
STROKES = ('', '5 2', '1 1.5')  # the same as SVG has them
MOST_LINES = len(PALETTE) * len(DASHES)  # that can be told apart
SIZE = (4.6, 3.1)  # inches, of a chart that fills a telephone and a third of a screen


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart; its place among all lines of the page decides its colour and dashes.

    Attributes:
        place: its place among all lines of the page.
        x: the places of its points, `[N]`, numbers or, with `names`, counts from 0.
        y: their values, `[N]`.
        low: the lower end of each interval, `[N]`; None draws none.
        high: the upper end.
        mark: the place of a dotted upright line in its colour; None draws none.
    """

    place: int
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    mark: float | None = dataclasses.field(default=None, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Axis:
    """What a chart shows along its sides.

    Attributes:
        x: the label below.
        y: the label at the left.
        names: texts at x = 0, 1, ... instead of numbers.
        logarithmic: whether x has a logarithmic scale.
        points: whether points and intervals are drawn instead of bands.
        thousands: whether x counts updates: 5k, 1M.
    """

    x: str
    y: str
    names: Sequence[str] = ()
    logarithmic: bool = False
    points: bool = False
    thousands: bool = False


def line_chart(
    name: str,
    title: str,
    axis: Axis,
    lines: Sequence[Line],
    level: float | None = None,
) -> str:
    """A chart of lines as SVG; `level` is that of a dashed line across it."""
    figure = Figure(figsize=SIZE, layout='constrained')
    axes = figure.subplots()
    for line in lines:
        _draw(axes, axis, line)
    if level is not None:
        axes.axhline(level, color='#999999', lw=1.2, ls=(0, (5, 3)), zorder=1)
    _set_x(axes, axis)
    axes.set_ylabel(axis.y)
    _finish(axes, title)
    return to_svg(figure, name, f'{title}: {axis.y} against {axis.x}')


def interval_chart(
    name: str, title: str, label: str, rows: Sequence[tuple[str, int, float, float, float]]
) -> str:
    """Points with intervals, one below the other, as SVG.

    Args:
        name: begins the ids.
        title: heads the chart.
        label: the label of the x axis.
        rows: text, place among the lines of the page, point, lower and upper end.
    """
    figure = Figure(figsize=(SIZE[0], 0.9 + 0.27 * len(rows)), layout='constrained')
    axes = figure.subplots()
    for y, (_, place, point, low, high) in enumerate(rows):
        colour = PALETTE[place % len(PALETTE)]
        axes.plot([low, high], [y, y], color=colour, lw=5, alpha=0.35, solid_capstyle='butt')
        axes.plot([point], [y], color=colour, marker='o', ms=6)
    axes.set_yticks(range(len(rows)), [_short(row[0], 28) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _finish(axes, title, grid='x')
    return to_svg(figure, name, title)


def legend(names: Mapping[str, int]) -> str:
    """The names of lines with their colours and dashes, as HTML; their places as values."""
    from html import escape

    items = []
    for name, place in names.items():
        stroke = variable(f'c{place % len(PALETTE)}')
        dashes = STROKES[place // len(PALETTE) % len(STROKES)]
        items.append(
            f'<li><svg viewBox="0 0 26 10" class="key"><path d="M0 5H26" stroke="{stroke}" '
            f'stroke-width="3" stroke-dasharray="{dashes}"/></svg>{escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _draw(axes: Axes, axis: Axis, line: Line) -> None:
    """Draws a line with its intervals."""
    colour = PALETTE[line.place % len(PALETTE)]
    dashes = DASHES[line.place // len(PALETTE) % len(DASHES)]
    marker = 'o' if axis.points or len(line.x) == 1 else ''
    if line.low is not None and line.high is not None:
        if axis.points:
            axes.vlines(line.x, line.low, line.high, color=colour, lw=3, alpha=0.35)
        else:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, lw=0)
    axes.plot(line.x, line.y, color=colour, ls=dashes, lw=1.8, marker=marker, ms=4.5)
    if line.mark is not None:
        axes.axvline(line.mark, color=colour, lw=1.1, ls=(0, (1, 2)), zorder=1)


def _set_x(axes: Axes, axis: Axis) -> None:
    """Sets scale, ticks and label of the x axis."""
    axes.set_xlabel(axis.x)
    if axis.names:
        axes.set_xticks(range(len(axis.names)), [_short(name, 14) for name in axis.names])
        axes.set_xlim(-0.5, len(axis.names) - 0.5)
    elif axis.logarithmic:
        axes.set_xscale('log')
        seen = np.unique(np.concatenate([line.get_xdata() for line in axes.get_lines()]))
        ticks = [float(x) for x in seen if x > 0][:: math.ceil(len(seen) / 6)]
        axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
        if axis.thousands:
            axes.xaxis.set_major_formatter(EngFormatter(sep=''))


def _finish(axes: Axes, title: str, grid: str = 'y') -> None:
    """Sets the style that all charts share."""
    axes.set_title(_short(title, 46), fontsize=10.5, color=INK, loc='left', fontweight='bold')
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color('#999999')
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(axis='x' if grid == 'x' else 'y', color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _short(text: str, most: int) -> str:
    """The text, cut in its middle where it is longer."""
    half = (most - 1) // 2
    return text if len(text) <= most else f'{text[:half]}…{text[-half:]}'
