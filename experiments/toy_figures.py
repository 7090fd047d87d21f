"""Draws the toy figures from what the runs kept."""

import io
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dtql_jax.report.plots import FAINT, INK, PALETTE
from dtql_jax.tasks import toys

SHOWN = 150  # samples of a lane
DATA = '#B8B8B8'
NAMES = {
    '25gaussians': '25 Gaussians',
    'swissroll': 'swiss roll',
    '8gaussians': '8 Gaussians',
    'checkerboard': 'checkerboard',
    'twomoons': 'two moons',
}


def draw_landscapes(kept: dict[tuple[int, str], dict[str, np.ndarray]]) -> Figure:
    """Figure 1: a row for each number of updates, a column for each schedule, the data first."""
    moments, schedules = (list(dict.fromkeys(key[i] for key in kept)) for i in (0, 1))
    drawn, axes = _panels(len(moments), len(schedules) + 1, margin=1.6)
    for row, moment in enumerate(moments):
        axes[row, 0].set_ylabel(f'{moment:,} updates', fontsize=13)
        _data(axes[row, 0], '25gaussians', INK)
        for axis, schedule in zip(axes[row, 1:], schedules, strict=True):
            # Losses span orders of magnitude outside the data: the colours are their ranks.
            loss, edge = kept[moment, schedule]['loss'], kept[moment, schedule]['axis'][-1]
            rank = loss.ravel().argsort().argsort().reshape(loss.shape) / (loss.size - 1)
            shade = axis.imshow(
                rank, origin='lower', extent=(-edge, edge, -edge, edge), cmap='viridis'
            )
            if row == 0:
                axis.set_title(schedule.upper(), fontsize=15)
    axes[0, 0].set_title('data', fontsize=15)
    bar = drawn.colorbar(shade, ax=axes, shrink=0.6, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(['lowest', 'median', 'largest'], fontsize=12)
    bar.set_label('trust-region loss (rank over the plane)', fontsize=13)
    return drawn


def draw_samples(
    rows: Sequence[tuple[str, str]],
    kept: Sequence[dict[str, np.ndarray]],
    title: str,
) -> Figure:
    """Figures 2 and 3: a row for each set and reward, a column for each regulariser."""
    names = list(dict.fromkeys(kept[0]['variants']))
    drawn, axes = _panels(len(rows), len(names) + 1)
    drawn.suptitle(f'{title} (each colour is a seed)', fontsize=17, color=INK)
    for row, ((name, reward), arrays) in enumerate(zip(rows, kept, strict=True)):
        label = NAMES[name] if reward == 'same' else f'reward: {reward}'
        axes[row, 0].set_ylabel(label, fontsize=14)
        _data(axes[row, 0], name, INK if reward == 'same' else reward)
        for axis, variant in zip(axes[row, 1:], names, strict=True):
            _data(axis, name, DATA)
            _samples(axis, arrays['samples'][arrays['variants'] == variant])
            if row == 0:
                axis.set_title(variant.replace(' + ', '\n+ '), fontsize=14)
    axes[0, 0].set_title('data', fontsize=14)
    return drawn


def _panels(rows: int, columns: int, margin: float = 0.5) -> tuple[Figure, np.ndarray]:
    """A figure of square panels without ticks, and a margin for what stands beside them."""
    drawn = Figure(figsize=(2.2 * columns + margin, 2.2 * rows + 0.7), layout='constrained')
    axes = drawn.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_aspect('equal')
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(FAINT)
    return drawn, axes


def _samples(axis: Axes, lanes: np.ndarray) -> None:
    """The samples `[S, N, 2]` of the seeds, in turn, so that no seed covers the others."""
    one = bool((lanes == lanes[:, :1]).all())  # of a deterministic policy: a point of each seed
    points = lanes[:, : 1 if one else SHOWN].swapaxes(0, 1)
    colours = [PALETTE[seed % 6] for seed in range(len(lanes))] * len(points)
    size, edge = (45, 0.7) if one else (9, 0)
    x, y = points.reshape(-1, 2).T
    axis.scatter(x, y, s=size, color=colours, edgecolor='white', linewidth=edge, rasterized=True)


def _data(axis: Axes, name: str, shade: str) -> None:
    """The data of a set: in one colour, or by a reward."""
    actions = toys.actions(name)
    points = actions[::10]
    if shade in toys.REWARDS:
        values = toys.rewards(name, shade, points)
        axis.scatter(*points.T, s=3, c=values, cmap='viridis', linewidth=0, rasterized=True)
    else:
        axis.scatter(*points.T, s=2, color=shade, linewidth=0, rasterized=True)
    edge = 1.08 * float(np.abs(actions).max())  # samples at the end of the box are whole
    axis.set_xlim(-edge, edge)
    axis.set_ylim(-edge, edge)


def save(drawn: Figure, path: pathlib.Path) -> None:
    """Writes the figure as PNG, in 256 colours, and as SVG, whose texts stay texts."""
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': path.stem}):
        drawn.savefig(path.with_suffix('.svg'), dpi=150, metadata={'Date': None})
    png = io.BytesIO()
    drawn.savefig(png, format='png', dpi=110)
    picture = Image.open(png).convert('RGB').quantize(256, dither=Image.Dither.NONE)
    picture.save(path.with_suffix('.png'), optimize=True)
