"""What a run ends with: its result and report, or the signal that stopped it."""

import dataclasses
import math
import pathlib
from typing import Any

from dtql_jax.data.card import behaviour
from dtql_jax.data.load import Dataset
from dtql_jax.report.console import Console
from dtql_jax.report.notebook import show_picture
from dtql_jax.report.tables import score_table
from dtql_jax.runs.plan import Plan
from dtql_jax.training import checkpoint
from dtql_jax.training.progress import CHECKPOINTS
from dtql_jax.types import Lane, Stopped, UserError, outside


class Interrupted(Stopped):
    """A signal stopped a run, which saved a checkpoint; `run(..., resume=True)` continues it.

    Args:
        run_dir: the folder of the run.
        signal: the number of the signal.
    """

    def __init__(self, run_dir: pathlib.Path, signal: int):
        saved = checkpoint.any_in(run_dir / CHECKPOINTS)
        where = f'with a checkpoint in {run_dir}' if saved else 'before its first checkpoint'
        super().__init__(f'stopped, {where}')
        self.run_dir = run_dir
        self.signal = signal


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run that came to its end.

    Args:
        run_dir: the folder of the run.
        lanes: the training runs, one for each seed of each variant.
        evals: the rows of `eval.jsonl`.
        diverged: the update at which a lane, by its index, was given up.
        table: the scores, as they were printed.
        curves: the picture of the learning curves.
    """

    run_dir: pathlib.Path
    lanes: tuple[Lane, ...]
    evals: list[dict[str, Any]]
    diverged: dict[int, int]
    table: str = ''
    curves: pathlib.Path | None = None

    @property
    def failed(self) -> bool:
        """Whether no lane has a last score: each diverged, or its last evaluation failed."""
        last = {(row['variant'], row['seed']): row for row in self.evals}
        return all(
            i in self.diverged or 'eval/failed' in last.get((lane.variant, lane.seed), {})
            for i, lane in enumerate(self.lanes)
        )

    def scores(self, variant: str) -> list[float]:
        """The last score of each seed of a variant, by seed; NaN where its evaluation failed."""
        rows = [row for row in self.evals if row['variant'] == variant]
        last = {row['seed']: row.get('eval/score', math.nan) for row in rows}
        return [last[seed] for seed in sorted(last)]


def report(result: Result, plan: Plan, dataset: Dataset, console: Console) -> Result:
    """Prints the table, writes it, and draws the curves.

    Raises:
        UserError: a file cannot be written. The run is complete all the same.
    """
    table = score_table(plan.lanes, result.evals, behaviour(dataset.card), result.diverged)
    if plan.task.caveat:
        table += f'\nnote: {plan.task.caveat}'
    online = f', then {n:,} in the environment' if (n := plan.config.online_steps) else ''
    console.say(f'\n{plan.task.name}, {plan.config.steps:,} updates{online}\n\n{table}\n')
    if result.failed:
        diverged = len(result.diverged) == len(result.lanes)
        console.warn(
            'every seed diverged: try a smaller learning rate'
            if diverged
            else 'no seed has a last score: mend the simulator, then evaluate the run again'
        )
    path = result.run_dir / 'table.txt'
    again = 'the run is complete: make room or give permission, and `resume` writes it again'
    with outside(f'{path} cannot be written', again):
        path.write_text(table + '\n', encoding='utf-8')
    from dtql_jax.report.plots import plot_curves  # a third of a second that no run waits for

    try:
        curves = plot_curves(result.run_dir, dataset.card['score'])
    except UserError as error:
        raise UserError(f'{error}; {again}') from None
    show_picture(curves)
    return dataclasses.replace(result, table=table, curves=curves)
