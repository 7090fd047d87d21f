"""Draws the charts of `docs/` from the result files: throughput, the comparison, time to a result.

  python benchmarks/charts.py --results=benchmarks/results --out=docs

Each result file whose name begins with that of a chart gives one.
"""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtql_jax.cli.flags import run_command
from dtql_jax.report.plots import FAINT, INK, PALETTE

FLAGS = flags.FlagValues()
flags.DEFINE_string('results', 'benchmarks/results', 'folder of the result files', FLAGS)
flags.DEFINE_string('out', 'docs', 'folder of the charts', FLAGS)


def figure(width: float, columns: int, report: dict[str, Any]) -> tuple[Figure, list[Axes]]:
    """A figure of some columns, which says below where its numbers were measured."""
    drawn = Figure(figsize=(width, 3.6), dpi=150, layout='constrained')
    axes = drawn.subplots(1, columns, squeeze=False)[0]
    where = f'{report["device"]}, {report["processor"]}; jax {report["jax"]}, {report["date"]}'
    drawn.supxlabel(where, fontsize=7, color=INK)
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', color=FAINT, linewidth=0.6)
        axis.set_axisbelow(True)
    return drawn, list(axes)


def bars(axis: Axes, names: list[str], values: list[float], unit: str, digits: int) -> None:
    """Bars with their values on top."""
    drawn = axis.bar(names, values, color=[PALETTE[i % len(PALETTE)] for i in range(len(names))])
    axis.bar_label(drawn, fmt=f'%.{digits}f', fontsize=8, color=INK)
    axis.set_ylabel(unit)
    axis.tick_params(axis='x', labelsize=6)


def throughput(report: dict[str, Any]) -> Figure:
    """Seed-updates/s against the number of seeds."""
    drawn, (axis,) = figure(5, 1, report)
    seeds = [row['value'] for row in report['seeds']]
    rates = [row['seed_updates_per_s'] for row in report['seeds']]
    axis.plot(seeds, rates, 'o-', color=PALETTE[0])
    axis.set_xscale('log', base=2)
    axis.set_xticks(seeds, [str(n) for n in seeds])
    axis.set_ylim(0, 1.1 * max(rates))
    axis.set_xlabel('seeds trained at once')
    axis.set_ylabel('updates/s of all seeds together')
    axis.set_title('DTQL, observation 17, action 6, batch 256', fontsize=10)
    return drawn


def against(report: dict[str, Any]) -> Figure:
    """DTQL and Diffusion-QL, ours and released: updates/s by size, milliseconds per action."""
    rows = [row for row in report['results'] if row['seeds'] == 1]
    dims = list(dict.fromkeys(row['dims'] for row in rows))
    drawn, axes = figure(13, len(dims) + 1, report)

    def label(row: dict) -> str:
        parts = [row['method'].upper(), 'released' if row['released'] else 'ours']
        parts.append(f'batch {row["batch_size"]}')
        return '\n'.join(parts + (['max-Q\nbackup'] if row['max_q_backup'] else []))

    for axis, size in zip(axes, dims, strict=False):
        here = [row for row in rows if row['dims'] == size]
        bars(axis, [label(r) for r in here], [r['updates_per_s'] for r in here], 'updates/s', 1)
        axis.set_title(f'training, observation/action {size}', fontsize=10)
    here = [row for row in rows if row['dims'] == dims[0]]
    names = ['\n'.join(label(row).split('\n')[:2]) for row in here]
    bars(axes[-1], names, [row['ms_per_action'] for row in here], 'ms', 1)
    axes[-1].set_title('one action: 1024 candidates, DQL 50', fontsize=10)
    return drawn


def time_to_result(report: dict[str, Any]) -> Figure:
    """Stacked bars of whole runs."""
    drawn, (axis,) = figure(8, 1, report)
    rows = report['results']
    names = [f'{r["asked"]["env"]}\n{r["asked"]["num_seeds"]} seeds' for r in rows]
    parts = list(dict.fromkeys(name for row in rows for name in row['parts_s']))
    left = [0.0] * len(rows)
    for part, colour in zip(parts, PALETTE, strict=False):
        widths = [row['parts_s'].get(part, 0.0) for row in rows]
        axis.barh(names, widths, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.grid(axis='y', visible=False)
    axis.set_xlabel('seconds from launch')
    axis.legend(
        fontsize=7, frameon=False, ncols=len(parts), loc='lower left', bbox_to_anchor=(0, 1)
    )
    return drawn


CHARTS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    'scaling': throughput,
    'against_diffusion_ql': against,
    'time_to_result': time_to_result,
}


def main(asked: flags.FlagValues) -> None:
    for path in sorted(pathlib.Path(asked.results).glob('*.json')):
        for name, draw in CHARTS.items():
            if path.stem.startswith(name):
                target = pathlib.Path(asked.out, f'{path.stem.replace("_", "-")}.png')
                draw(json.loads(path.read_text())).savefig(target)
                print(target)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
