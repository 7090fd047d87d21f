"""Evaluates the policies of a run again, finished or stopped, in the environment of its task.

  dtql evaluate --run=runs/x --episodes=100
  dtql evaluate --run=runs/x --which=best --eval_seed=1
  dtql evaluate --run=runs/x --variant=dtql --seed=0 --video=x.gif

Training evaluates on the starts of --eval_seed=0, and chooses the best policies by them. Another
--eval_seed draws other starts, on which the score of these policies is unbiased.

The command prints a table and appends a row for each seed to reeval.jsonl in the run folder, with
the value of each episode. It changes nothing else there. The film shows the first episode of the
first seed.

Exit codes: 0 done; 1 the evaluation of every seed failed, and the table says why; 2 a mistake in a
flag or an error of the machine, which one line explains; 130 stopped by Ctrl-C.
"""

import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError, user_path

if TYPE_CHECKING:
    from dtql_jax.runs.policy import Run, Which

FLAGS = flags.FlagValues()
flags.DEFINE_string('run', None, 'the run folder', FLAGS)
define_whole('episodes', 100, 'episodes of each seed', FLAGS)
flags.DEFINE_string('which', 'last', "policies: 'last' or 'best'", FLAGS)
flags.DEFINE_string('variant', None, "only these lanes, such as 'dtql' or 'clone'", FLAGS)
define_whole('seed', None, 'only this training seed (default: all)', FLAGS)
define_whole('eval_seed', 0, "draws the episodes' starts; training uses 0", FLAGS)
define_whole('eval_envs', None, 'simulators side by side (speed only, no result)', FLAGS)
flags.DEFINE_float(
    'eval_timeout', 600.0, 'seconds that one step or reset may take; 0: no limit', flag_values=FLAGS
)
flags.DEFINE_string('video', None, 'film to write: .gif, or .mp4 with imageio-ffmpeg', FLAGS)

LEAST = {'episodes': 1, 'eval_seed': 0, 'eval_envs': 1, 'eval_timeout': 0}


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; returns the exit code."""
    return run_command(evaluate, FLAGS, __doc__, argv)


def evaluate(asked: flags.FlagValues) -> int:
    """Evaluates, prints the table and keeps the rows; returns the exit code."""
    # Here and not above: --help needs none of it.
    from dtql_jax.data.card import behaviour
    from dtql_jax.report.loggers import JsonlLog
    from dtql_jax.report.tables import evaluation_table
    from dtql_jax.rollout.patience import Patience
    from dtql_jax.rollout.player import Conditions, open_player
    from dtql_jax.runs.policy import Run
    from dtql_jax.tasks.env import check_env

    check(asked)
    run = Run(user_path('run', asked.run))
    acting = run.acting(asked.which)
    lanes = choose(run, asked.which, asked.variant, asked.seed)
    patience = Patience(asked.eval_timeout)
    patience.call(
        functools.partial(check_env, run.task, run.agent.spec, 'the policy'),
        f'{run.task.name}: a simulator',
    )
    conditions = Conditions(asked.episodes, asked.eval_envs, asked.eval_seed, patience)
    with open_player(run.task, run.agent, run.lanes, conditions) as player:
        scores = player(acting, lanes)
    rows = [
        {
            'step': run.step(i, asked.which),
            'variant': run.lanes[i].variant,
            'seed': run.lanes[i].seed,
            'which': asked.which,
            'eval_seed': asked.eval_seed,
            **scores[i],
        }
        for i in lanes
    ]
    print(f'{run.task.name}, {asked.which} policies, {asked.episodes} episodes of each seed\n')
    print(evaluation_table(rows, behaviour(run.description['data'])), flush=True)
    with JsonlLog(run.run_dir / 'reeval.jsonl') as log:
        for row in rows:
            log.write(row)
    if asked.video:
        film(run, lanes[0], asked.which, asked.eval_seed, user_path('video', asked.video))
    return 1 if all('eval/failed' in row for row in rows) else 0


def check(asked: flags.FlagValues) -> None:
    """Raises UserError for flags that cannot be met; reads nothing."""
    from dtql_jax.runs.plan import MOST_EPISODES

    if not asked.run:
        raise UserError('no run to evaluate: name its folder as --run=DIR')
    for name, least in LEAST.items():
        value = getattr(asked, name)
        if value is not None and not value >= least:
            raise UserError(f'--{name}={value}: must be at least {least}')
    if asked.episodes > MOST_EPISODES:
        raise UserError(f'--episodes={asked.episodes}: must be at most {MOST_EPISODES}')
    if asked.video and pathlib.Path(asked.video).suffix not in ('.gif', '.mp4'):
        raise UserError(f'--video={asked.video}: end its name in .gif or .mp4')


def choose(run: 'Run', which: 'Which', variant: str | None, seed: int | None) -> list[int]:
    """The lanes to evaluate. Prints why others are left out.

    Raises:
        UserError: there is no such lane, or none has such a policy.
    """
    if variant is not None or seed is not None:
        run.lane(seed, variant)  # raises where there is none
    # A seed alone means this seed of every variant.
    lanes = [
        i
        for i, lane in enumerate(run.lanes)
        if variant in (None, lane.variant) and seed in (None, lane.seed)
    ]
    missing = {i: reason for i in lanes if (reason := run.missing(i, which))}
    if len(missing) == len(lanes):
        raise UserError(f'{run.run_dir}: {missing[lanes[0]]}')
    for reason in missing.values():
        print(f'left out: {reason}')
    return [i for i in lanes if i not in missing]


def film(run: 'Run', index: int, which: 'Which', eval_seed: int, path: pathlib.Path) -> None:
    """Films the first episode of a lane, with the actions of its evaluation."""
    import contextlib

    from dtql_jax.rollout.evaluate import start_seed
    from dtql_jax.rollout.video import record_video
    from dtql_jax.runs.policy import policy_of
    from dtql_jax.tasks.env import make_env

    if sys.platform == 'linux' and not os.environ.get('DISPLAY'):
        os.environ.setdefault('MUJOCO_GL', 'egl')  # draws without a screen
    policy = policy_of(run, index, which)
    with contextlib.closing(make_env(run.task, render_mode='rgb_array')) as env:
        total = record_video(policy, env, path, seed=start_seed(eval_seed, 0))
    lane = run.lanes[index]
    print(f'film {path}: {lane.variant} seed {lane.seed}, return {total:.1f}')
