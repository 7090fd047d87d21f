"""Every agent on the same data, side by side: scores, updates/s, milliseconds per action.

  python benchmarks/comparison.py                                  # all agents, two tasks
  python benchmarks/comparison.py --agents=dtql,iql --envs=pointmaze-umaze --updates=4000

Each agent is trained for --updates, or for what fits into --minutes of this machine, with its own
settings for the task, at one batch size; earlier phases take their published share, at least a
fifth and at most as many as the last. First all are timed, one after the other with nothing beside
them; then they train, --jobs at a time, each on its share of the cores. The result file keeps what
is done: started again, the script goes on where it was stopped.
"""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import queue

import numpy as np
from absl import app, flags
from measure import ActingTimer, TrainingTimer, machine

from dtql_jax import data
from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.registry import has_row
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.run import run
from dtql_jax.training.compilation_cache import use_compilation_cache
from dtql_jax.types import Phase

_ENVS = flags.DEFINE_list('envs', ['pointmaze-medium', 'halfcheetah-medium'], 'tasks')
_AGENTS = flags.DEFINE_list('agents', list(AGENTS), 'algorithms')
_SEEDS = flags.DEFINE_integer('num_seeds', 2, 'seeds, trained at once')
_UPDATES = flags.DEFINE_integer('updates', 20_000, 'updates of the last phase')
_MINUTES = flags.DEFINE_float('minutes', 10.0, 'training time per agent and task at most')
_BATCH = flags.DEFINE_integer('batch_size', 256, 'batch size of every agent')
_EPISODES = flags.DEFINE_integer('eval_episodes', 5, 'episodes per seed where each is long')
_RUNS = flags.DEFINE_string('runs', 'runs/comparison', 'where the run folders go')
_JOBS = flags.DEFINE_integer('jobs', 2, 'runs side by side')
_OUT = flags.DEFINE_string('out', 'benchmarks/results/comparison.json', 'JSON file to write')

# Where a published weight was tuned for other data or far longer runs: 30 learns in few updates on
# this set. DQL-KL, which has no table of its own, has DTQL's.
SETTINGS = {
    ('halfcheetah-medium', 'dtql'): {'alpha': 30.0},
    ('halfcheetah-medium', 'dql_kl'): {'alpha': 30.0},
}
SHARE = 0.2  # of the last phase, that an earlier one gets at least
BLOCKS, BLOCK_SECONDS = 3, 2.0


def request(env: str, agent: str, steps: dict[str, int]) -> dict:
    """What is asked of a run; `steps` are the lengths of its phases by setting."""
    settings = {**SETTINGS.get((env, agent), {}), **steps}
    names = {f.name for f in AGENTS[agent].agent.config_class.__dataclass_fields__.values()}
    settings |= {n: _BATCH.value for n in names if n.endswith('batch_size')}
    settings |= {'clone_seeds': 0, 'eval_every': steps.get('steps', 1)}
    asked = {'env': env, 'agent': agent, 'num_seeds': _SEEDS.value, 'settings': settings}
    plan = make_plan(make_request(asked))
    # A maze's episode is short and only its success counts: the task's own number stays.
    return asked if plan.task.horizon < 1000 else {**asked, 'eval_episodes': _EPISODES.value}


def lengths(env: str, agent: str) -> dict[str, int]:
    """How long each phase would be without a clock, by the setting that says so."""
    config = make_plan(make_request({'env': env, 'agent': agent})).config
    phases = AGENTS[agent].agent(data_spec(env), config).phases()
    share = {phase.name: phase.steps / config.steps for phase in phases}
    return {
        setting_of(phase, phases): int(_UPDATES.value * min(1.0, max(SHARE, share[phase.name])))
        for phase in phases
    }


def setting_of(phase: Phase, phases: tuple[Phase, ...]) -> str:
    """The setting with a phase's number of updates."""
    return 'steps' if phase.name == phases[-1].name else f'{phase.name}_steps'


def load(env: str, reward: str) -> data.Dataset:
    return data.load(make_plan(make_request({'env': env})).task, reward=reward)


def data_spec(env: str):
    return load(env, 'none').spec


def measure(env: str, agent_name: str, steps: dict[str, int]) -> tuple[dict[str, float], float]:
    """Updates/s of all seeds together in each phase, and milliseconds per action of one seed."""
    plan = make_plan(make_request(request(env, agent_name, steps)))
    dataset = load(env, plan.config.reward)
    agent = AGENTS[agent_name].agent(dataset.spec, plan.config)
    training = TrainingTimer(agent, dataset.transitions, plan.lanes, BLOCK_SECONDS, all_phases=True)
    for _ in range(BLOCKS):
        training.block()
    acting = ActingTimer(agent, training.state, batch=1)
    acting.block()
    rates = training.medians()
    return {setting_of(p, agent.phases()): rates[p.name] for p in agent.phases()}, acting.ms()


def time_and_plan(env: str, agent: str) -> dict:
    """A row's figures of speed, and the lengths of its phases, cut to what fits into --minutes."""
    steps = lengths(env, agent)
    rates, ms_per_action = measure(env, agent, steps)
    seconds = sum(n / rates[name] for name, n in steps.items())
    fits = min(1.0, 60 * _MINUTES.value / seconds)
    return {
        'env': env,
        'agent': agent,
        'updates': {name: int(n * fits) for name, n in steps.items()},
        'updates_per_s': rates,
        'ms_per_action': ms_per_action,
        'has_row': has_row(agent, env),
    }


def train(asked: dict, out: pathlib.Path, job: int) -> dict:
    """The scores of one run, in a process of its own that keeps to its share of the cores."""
    if hasattr(os, 'sched_setaffinity'):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // asked['jobs'])
        os.sched_setaffinity(0, cores[job * share : (job + 1) * share])
    asked = {k: v for k, v in asked.items() if k != 'jobs'}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix('.log').open('a') as log, contextlib.redirect_stdout(log):
        result = run(asked, out=out, resume=out.exists())
    config = json.loads((out / 'config.json').read_text())
    return {
        'scores': result.scores(asked['agent']),
        'behaviour': config['data']['score'],
        'diverged': len(result.diverged),
        'training_s': read_jsonl(out / 'metrics.jsonl')[-1]['time/elapsed_s'],
        'settings': {k: v for k, v in config['identity'].items() if k.startswith('config.')},
    }


def table(rows: list[dict]) -> str:
    """The rows as Markdown, a table per task, with who fails to beat the behaviour or `bc`."""
    lines = []
    for env in dict.fromkeys(row['env'] for row in rows):
        here = {row['agent']: row for row in rows if row['env'] == env}
        behaviour = next(iter(here.values()))['behaviour']
        lines += [f'\n**{env}** (behaviour in the data: {behaviour:.1f})\n',
                  '| agent | updates | score of each seed | updates/s | ms per action |',
                  '|---|---|---|---|---|']  # fmt: skip
        for name, row in here.items():
            updates = ' + '.join(f'{n:,}' for n in row['updates'].values())
            rates = ', '.join(f'{rate:.0f}' for rate in row['updates_per_s'].values())
            scores = ', '.join(f'{score:.1f}' for score in row['scores'])
            lines.append(
                f'| {name} | {updates} | {scores} | {rates} | {row["ms_per_action"]:.2f} |'
            )
        mean = {name: np.mean(row['scores']) for name, row in here.items()}
        lines.append('')
        for rival, score in {'the behaviour': behaviour, 'bc': mean.get('bc', -np.inf)}.items():
            below = [name for name in mean if name != rival and not mean[name] > score]
            lines.append(f'Not above {rival} in the mean: {", ".join(below) or "none"}.')
    return '\n'.join(lines)


def main(_: list[str]) -> None:
    use_compilation_cache()
    out = pathlib.Path(_OUT.value)
    report = {'results': []}
    with contextlib.suppress(FileNotFoundError):
        report = json.loads(out.read_text())
    report |= {
        **machine(),
        'seeds': _SEEDS.value,
        'batch_size': _BATCH.value,
        'minutes': _MINUTES.value,
    }
    rows = report['results']

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + '\n')

    for env in _ENVS.value:
        for agent in _AGENTS.value:
            if not any((row['env'], row['agent']) == (env, agent) for row in rows):
                rows.append(time_and_plan(env, agent))
                print(json.dumps(rows[-1]), flush=True)
                save()
    # Only now, so that nothing runs beside what is timed.
    waiting = [row for row in rows if 'scores' not in row]
    spawn = multiprocessing.get_context('spawn')
    free = queue.SimpleQueue()
    for job in range(_JOBS.value):
        free.put(job)

    def train_row(row: dict) -> None:
        job = free.get()
        asked = request(row['env'], row['agent'], row['updates']) | {'jobs': _JOBS.value}
        path = pathlib.Path(_RUNS.value) / f'{row["env"]}-{row["agent"]}'
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process:
            row |= process.submit(train, asked, path, job).result()
        free.put(job)
        print(row['env'], row['agent'], row['scores'], flush=True)
        save()

    with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
        list(pool.map(train_row, waiting))
    print(table(report['results']))


if __name__ == '__main__':
    app.run(main)
