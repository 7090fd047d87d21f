"""The toy figures of DTQL: what a trust region is and does, in two dimensions.

  python experiments/toy.py --figure=1    # the trust-region loss over the plane of actions
  python experiments/toy.py --figure=2    # what each regulariser alone converges to
  python experiments/toy.py --figure=3    # what Q makes of it, for each reward
  python experiments/toy.py --figure=all

Writes figures (PNG and SVG) and `toy.json`, the numbers of each cell and seed, into --out. The
runs lie in its folder `runs`. Started again with the same flags, the script goes on where it was
stopped.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import toy_figures
import toy_metrics
import toy_runs
from absl import flags
from toy_runs import Job, Sizes

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.runs.folder import versions
from dtql_jax.tasks import toys
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_enum('figure', 'all', ['1', '2', '3', 'all'], 'what to draw', FLAGS)
flags.DEFINE_list('sets', list(toys.SETS), 'sets of figure 2', FLAGS)
flags.DEFINE_list('rewards', list(toy_runs.REWARDS), 'rewards of figure 3', FLAGS)
flags.DEFINE_list('policies', list(toy_runs.POLICIES), 'kinds of policy in both', FLAGS)
define_whole('num_seeds', 5, 'seeds of each cell', FLAGS)
define_whole('clone_steps', 2_000, 'updates of the clone', FLAGS)
define_whole('clone_batch_size', 256, "actions of its and the critic's batches", FLAGS)
define_whole('critic_steps', 500, 'updates of the critic', FLAGS)
define_whole('steps', 600, 'updates of the one-step policy', FLAGS)
define_whole('batch_size', 128, 'actions of its batches', FLAGS)
define_whole('jobs', 2, 'runs at a time, each on its share of the cores', FLAGS)
flags.DEFINE_string('out', 'runs/toy', 'folder of the results', FLAGS)

OURS = 'experiments/toy.py'  # what `made_by` in a toy.json says


def main(asked: flags.FlagValues) -> None:
    out = pathlib.Path(asked.out)
    figures = (1, 2, 3) if asked.figure == 'all' else (int(asked.figure),)
    sizes = Sizes(**{field.name: asked[field.name].value for field in dataclasses.fields(Sizes)})
    lists = {'sets': toys.SETS, 'rewards': toy_runs.REWARDS, 'policies': toy_runs.POLICIES}
    for name, known in lists.items():
        for value in asked[name].value:
            if value not in known:
                raise UserError(f'`{name}`={value}: there are {", ".join(known)}')
    jobs = list(toy_runs.all_jobs(figures, sizes))
    content = {'made_by': OURS, 'asked': {'figure': asked.figure, **vars(sizes)}}
    before = own(out, content)
    began = time.monotonic()
    processor_s = train(jobs, out / 'runs', asked.jobs)
    results = [row for job in jobs if job.figure for row in numbers(job, out / 'runs')]
    cells = dict.fromkeys((row['figure'], row['set'], row['reward']) for row in results)
    results += [row for cell in cells if cell[0] > 1 for row in references(*cell)]
    draw(jobs, out)
    for name, spent in (
        ('seconds', round(time.monotonic() - began)),
        ('processor_seconds', processor_s),
    ):
        content[name] = before.get(name, 0) + spent  # of all calls that came to their end
    content |= {'jobs': asked.jobs, 'versions': versions(), 'date': time.strftime('%Y-%m-%d')}
    write(out, {**content, 'results': results})
    print(table(results))
    print(f'{out}: {content["seconds"]} s, of processors {processor_s} s')


def own(out: pathlib.Path, content: dict[str, Any]) -> dict[str, Any]:
    """Makes the folder; returns what its `toy.json` says.

    Raises:
        UserError: it holds what was not asked for.
    """
    path = out / 'toy.json'
    if path.exists():
        found = json.loads(path.read_text())
        if not all(found.get(name) == value for name, value in content.items()):
            raise UserError(f'`out`={out} holds the results of other flags: name another folder')
        return found
    if out.exists() and any(out.iterdir()):
        raise UserError(f'`out`={out} holds other files: name another folder')
    write(out, content)
    return content


def write(out: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes `toy.json`."""
    (out / 'runs').mkdir(parents=True, exist_ok=True)
    (out / 'toy.json').write_text(json.dumps(content, indent=1) + '\n')


def train(jobs: Sequence[Job], folder: pathlib.Path, workers: int) -> int:
    """Trains what is missing, several jobs at a time; returns the seconds of all processors."""
    spawn = multiprocessing.get_context('spawn')
    places = spawn.SimpleQueue()
    for place in range(workers):
        places.put(place)
    began, spent = time.monotonic(), 0.0
    waiting, done = list(jobs), {None}
    running: dict[concurrent.futures.Future[float], Job] = {}
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=spawn, initializer=settle, initargs=(places, workers)
    ) as pool:
        while waiting or running:
            ready = [job for job in waiting if job.after in done]
            for job in ready[: workers - len(running)]:
                waiting.remove(job)
                running[pool.submit(timed, job, folder)] = job
            for future in concurrent.futures.wait(running, return_when='FIRST_COMPLETED').done:
                job, spent = running.pop(future), spent + future.result()
                done.add(job.name)
                clock = time.monotonic() - began
                print(f'{clock:4.0f} s  {len(done) - 1}/{len(jobs)} {job.name}', flush=True)
    return round(spent)


def settle(places: Any, workers: int) -> None:
    """Keeps a worker to its share of the cores."""
    if hasattr(os, 'sched_setaffinity'):
        cores, place = sorted(os.sched_getaffinity(0)), places.get()
        share = max(1, len(cores) // workers)
        start = place * share % len(cores)
        os.sched_setaffinity(0, cores[start : start + share])


def timed(job: Job, folder: pathlib.Path) -> float:
    """The seconds of the processor that a job took."""
    before = time.process_time()
    toy_runs.train(job, folder)
    return time.process_time() - before


def numbers(job: Job, folder: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a job in `toy.json`; a list has a number for each seed."""
    kept = load(job, folder)
    name, reward = job.set_and_reward
    head = {'figure': job.figure, 'set': name, 'reward': reward}
    if job.figure == 1:
        what = {'schedule': job.request['schedule'], 'updates': job.request['steps']}
        losses = {f'loss_{key}': rounded(kept[key]) for key in ('modes', 'between')}
        return [{**head, **what, **losses, 'rank': rounded(kept['rank'])}]
    rows = []
    for variant in dict.fromkeys(kept['variants']):
        lanes = kept['samples'][kept['variants'] == variant]
        seeds = [toy_metrics.measures(name, reward, samples) for samples in lanes]
        values = {key: rounded([seed[key] for seed in seeds]) for key in seeds[0]}
        what = {'policy': job.request['policy'], 'regulariser': str(variant)}
        rows.append({**head, **what, 'of': toy_metrics.mode_count(name), **values})
    return rows


def references(figure: int, name: str, reward: str) -> list[dict[str, Any]]:
    """What the numbers are for draws of the data, and for uniform ones in the box."""
    head = {'figure': figure, 'set': name, 'reward': reward, 'policy': 'none'}
    return [
        {**head, 'regulariser': what, 'of': toy_metrics.mode_count(name)}
        | {key: rounded([value]) for key, value in measured.items()}
        for what, measured in toy_metrics.references(name, reward).items()
    ]


def load(job: Job, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What was kept of a job."""
    with np.load(toy_runs.kept(folder, job)) as arrays:
        return dict(arrays)


def rounded(values: Any) -> list[Any]:
    """Numbers of the seeds, as JSON holds them."""
    return [None if v is None else round(float(v), 4) for v in values]


def draw(jobs: Sequence[Job], out: pathlib.Path) -> None:
    """Writes the figures."""
    landscapes = [job for job in jobs if job.figure == 1]
    if landscapes:
        where = [(job.request['steps'], job.request['schedule']) for job in landscapes]
        kept = [load(job, out / 'runs') for job in landscapes]
        drawn = toy_figures.draw_landscapes(dict(zip(where, kept, strict=True)))
        toy_figures.save(drawn, out / 'figure-1.png')
    for figure, what in ((2, 'each regulariser alone'), (3, 'with Q')):
        for policy in toy_runs.POLICIES:
            chosen = [j for j in jobs if j.figure == figure and j.request['policy'] == policy]
            if chosen:
                found = [load(job, out / 'runs') for job in chosen]
                rows = [job.set_and_reward for job in chosen]
                title = f'{policy.capitalize()} policy, {what}'
                drawn = toy_figures.draw_samples(rows, found, title)
                toy_figures.save(drawn, out / f'figure-{figure}-{policy}.png')


# The columns of a figure's table, and the numbers in a cell: key -> how it is shown.
TABLES: dict[int, tuple[str, dict[str, str]]] = {
    1: ('updates', {'loss_modes': '.2f', 'loss_between': '.2f', 'rank': '.2f'}),
    2: ('set', {'modes': '.1f', 'within': '.2f', 'energy': '.1f'}),
    3: ('reward', {'reward_of_best': '.2f', 'modes': '.1f', 'within': '.2f'}),
}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The cells as Markdown, a table for each figure: means over the seeds."""
    lines = []
    for figure, (column, shown) in TABLES.items():
        cells: dict[str, dict[str, str]] = {}
        for row in results:
            if row['figure'] == figure:
                name = row['schedule'] if figure == 1 else f'{row["policy"]}, {row["regulariser"]}'
                means = [format(np.mean(row[key]), style) for key, style in shown.items()]
                cells.setdefault(name, {})[str(row[column])] = ' / '.join(means)
        if cells:
            columns = list(dict.fromkeys(key for row in cells.values() for key in row))
            lines += [f'Figure {figure}: {" / ".join(shown)}', '']
            lines += [f'| | {" | ".join(columns)} |', '|---' * (len(columns) + 1) + '|']
            for name, row in cells.items():
                lines.append(f'| {name} | {" | ".join(row.get(key, "") for key in columns)} |')
            lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
