"""Draws a loss over two dimensions of the action."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dtql_jax.report.plots import INK, PALETTE, save

MARKS = ('o', 'X', '^')


def draw_landscape(
    out: Path,
    title: str,
    places: Sequence[np.ndarray],
    loss: np.ndarray,
    dims: Sequence[int],
    points: Mapping[str, np.ndarray],
    threshold: float,
) -> Path:
    """Draws the picture and returns `out`.

    Args:
        out: the picture to write; its suffix is the format.
        title: heads the picture.
        places: the places along the two sides, `[N]` each.
        loss: the losses `[N, N]`, rows along the second dimension.
        dims: the two dimensions, which the sides name.
        points: actions `[M, 2]` by their name.
        threshold: the loss of the contour.

    Raises:
        UserError: the picture cannot be written.
    """
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout='constrained')
    axis = figure.subplots()
    least = max(float(loss.min()), 1e-6)
    norm = LogNorm(least, max(float(loss.max()), 1.01 * least))
    image = axis.pcolormesh(*places, loss, cmap='cividis_r', norm=norm, rasterized=True)
    figure.colorbar(image, ax=axis, label='trust-region loss')
    if loss.min() < threshold < loss.max():
        axis.contour(*places, loss, [threshold], colors=INK, linewidths=1.4)
        axis.plot([], [], color=INK, lw=1.4, label="0.95 quantile of the data's losses")
    for i, (name, point) in enumerate(points.items()):
        mark, colour = MARKS[i % len(MARKS)], PALETTE[1 + i]
        (line,) = axis.plot(*point.T, mark, color=colour, mec='white', mew=0.6, label=name)
        line.set(markersize=5 + 2 * i, clip_on=False, zorder=3 + i)
    axis.set_xlabel(f'action dimension {dims[0]}', color=INK)
    axis.set_ylabel(f'action dimension {dims[1]}', color=INK)
    axis.set_xlim(*places[0][[0, -1]])
    axis.set_ylim(*places[1][[0, -1]])
    axis.set_title(title, fontsize=10, color=INK, loc='left')
    axis.set_box_aspect(1)
    figure.legend(loc='outside lower center', ncols=3, frameon=False, fontsize=8, labelcolor=INK)
    return save(figure, out)
