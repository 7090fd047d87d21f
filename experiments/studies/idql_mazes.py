"""Why IDQL fails in a point maze: the choice among samples, the input of V, or the target critic.

  python experiments/studies/idql_mazes.py                # pointmaze-umaze
  python experiments/studies/idql_mazes.py --env=pointmaze-medium --steps=10000 --taus=0.05 \\
    --system=iql --system=idql_without_norm --candidates=4,32

IDQL is trained with and without the LayerNorm on V's input, and IQL beside it, each with every
rate of the target critic in --taus. Then each trained IDQL plays with other choices: the best of
1, 4, ... samples of the clone, a draw by the expectile's weights, the best of uniform samples.
Beside the successes stand the mean of V over states of the data, its rank correlation with the way
left to the goal, and how far the chosen actions point along that way. The result file keeps what is
done: started again, the script continues where it was stopped.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from dtql_jax.agents.base import Agent
from dtql_jax.agents.idql import IDQL
from dtql_jax.agents.iql_critic import IQLCritic
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.data.load import load
from dtql_jax.nn.layers import apply
from dtql_jax.report.statistics import rank_correlation
from dtql_jax.rollout.player import Conditions, open_player
from dtql_jax.runs.folder import read_run
from dtql_jax.runs.policy import Run
from dtql_jax.runs.run import run
from dtql_jax.tasks.mazes import MAPS, way_to
from dtql_jax.types import Params

SYSTEMS: dict[str, dict[str, Any]] = {
    'iql': {'agent': 'iql'},
    'idql': {'agent': 'idql', 'value_norm': True},
    'idql_without_norm': {'agent': 'idql', 'value_norm': False},
}
FLAGS = flags.FlagValues()
flags.DEFINE_string('env', 'pointmaze-umaze', 'a pointmaze', FLAGS)
flags.DEFINE_multi_enum('system', list(SYSTEMS), list(SYSTEMS), 'what is trained; repeat it', FLAGS)
define_whole('num_seeds', 2, 'seeds, trained at once', FLAGS)
define_whole('steps', 4_000, 'updates', FLAGS)
flags.DEFINE_list('taus', ['0.005', '0.05'], 'update rates of the target critic', FLAGS)
flags.DEFINE_list('candidates', ['1', '4', '32'], 'numbers of samples to choose of', FLAGS)
define_whole('eval_episodes', 20, 'episodes of each seed', FLAGS)
flags.DEFINE_string('runs', 'runs/idql-mazes', 'where the run folders go', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/idql_mazes.json', 'JSON file to write', FLAGS)

OTHERS = 32  # samples of the choices that are not IDQL's own
MEASURES = ('v', 'v_rank', 'towards_goal')
STATES = 1_000  # states of the data at which V and the choice are measured


class Drawn(IDQL):
    """Draws one of the samples, with the expectile's weights: IDQL's older learner."""

    def acting(self, state: Any) -> Params:
        return {**super().acting(state), 'v': state.params['v'], **state.hparams}

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        c, keys = self.config, jax.random.split(key)
        shape = (c.candidates, c.diffusion_steps + 1, self.spec.action_dim)
        action = self.candidates(acting, obs, jax.random.normal(keys[0], shape))
        above = self.candidate_q(acting, obs, action) > apply(self.v, acting['v'], obs)
        weight = jnp.where(above, acting['expectile'], 1 - acting['expectile'])
        return action[jax.random.categorical(keys[1], jnp.log(weight))]


class Uniform(IDQL):
    """Its samples are uniform in the box and know nothing of the data."""

    def candidates(self, acting: Params, obs: jax.Array, noise: jax.Array) -> jax.Array:
        return self.spec.max_action * (2 * jax.scipy.stats.norm.cdf(noise[:, 0]) - 1)


def choices(trained: Run, numbers: list[str]) -> Iterator[tuple[str, Agent]]:
    """The ways to act with what was trained: a name, and the agent that acts so."""
    agent = trained.agent
    if not isinstance(agent, IDQL):
        yield 'its own', agent
        return
    ways = [(f'best of {number}', IDQL, int(number)) for number in numbers]
    ways += [(f'drawn of {OTHERS}', Drawn, OTHERS), (f'best of {OTHERS} uniform', Uniform, OTHERS)]
    for name, agent_class, number in ways:
        yield name, agent_class(agent.spec, dataclasses.replace(agent.config, candidates=number))


def trained(system: str, asked: flags.FlagValues) -> Run:
    """Trains a system, or continues; a lane for every rate and seed."""
    out = pathlib.Path(asked.runs, f'{asked.env}-{system}-{asked.steps}')
    wanted = {name: asked[name].value for name in ('env', 'num_seeds', 'steps', 'eval_episodes')}
    wanted |= {'eval_every': asked.steps, 'clone_seeds': 0, **SYSTEMS[system]}
    wanted['variants'] = {f'tau={tau}': {'tau': float(tau)} for tau in asked.taus}
    run({} if out.exists() else wanted, out=out, resume=out.exists())
    return Run(out)


def by_rate(trained: Run, values: Any) -> dict[str, list[float]]:
    """One value of each lane, as rate -> the values of its seeds."""
    rates: dict[str, list[float]] = {}
    for lane, value in zip(trained.lanes, values, strict=True):
        rates.setdefault(lane.variant.removeprefix('tau='), []).append(round(float(value), 3))
    return rates


def played(trained: Run, agent: Agent, episodes: int) -> dict[str, list[float]]:
    """The share of episodes that reach the goal where `agent` acts."""
    acting = jax.vmap(agent.acting)(trained.progress.state)
    with open_player(trained.task, agent, trained.lanes, Conditions(episodes)) as player:
        rows = player(acting, range(len(trained.lanes)))
    return by_rate(trained, [rows[i]['eval/success'] for i in range(len(trained.lanes))])


def states(trained: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States of the data, each with the cells left to the goal and the direction of the next."""
    obs = np.asarray(load(trained.task).transitions.obs)
    obs = obs[np.random.default_rng(0).choice(len(obs), STATES, replace=False)]
    maze = MAPS[trained.task.name.removeprefix('pointmaze-')]
    free = {(i, j): x for i, row in enumerate(maze) for j, x in enumerate(row) if x != 1}
    goal = next(cell for cell, mark in free.items() if mark == 'g')
    ahead, middle = way_to(goal, free), np.array([len(maze[0]), -len(maze)]) / 2
    left = {goal: 0}
    for cell in ahead:  # breadth first, so the next one is known already
        left.setdefault(cell, left.get(ahead[cell], 0) + 1)
    cells = [(int(-y - middle[1]), int(x + middle[0])) for x, y in obs[:, :2]]
    near = [min(free, key=lambda f: (f[0] - i) ** 2 + (f[1] - j) ** 2) for i, j in cells]
    target = np.array([[ahead[c][1] + 0.5, -ahead[c][0] - 0.5] for c in near]) - middle
    way = target - obs[:, :2]
    return obs, np.array([left[c] for c in near]), way / np.linalg.norm(way, axis=1)[:, None]


def critic(trained: Run) -> dict[str, Any]:
    """V's mean, its rank correlation with the way left, and the chosen actions along the way."""
    numpy_obs, left, way = states(trained)
    obs, agent = jnp.asarray(numpy_obs), trained.agent
    assert isinstance(agent, IQLCritic)
    keys = jax.random.split(jax.random.key(0), STATES)

    def lane(state: Any) -> tuple[jax.Array, jax.Array]:
        action = jax.vmap(agent.act, (None, 0, 0))(agent.acting(state), obs, keys)
        return apply(agent.v, state.params['v'], obs), (action * way).sum(-1).mean()

    v, towards = jax.lax.map(lane, trained.progress.state)
    rank = [rank_correlation(x, -left) for x in np.asarray(v)]
    values = dict(zip(MEASURES, (v.mean(1), rank, towards), strict=True))
    return {name: by_rate(trained, value) for name, value in values.items()}


def measured(system: str, asked: flags.FlagValues) -> dict[str, Any]:
    """All that is measured of a system."""
    found = trained(system, asked)
    recorded = read_run(found.run_dir)
    success = {}
    for name, agent in choices(found, asked.candidates):
        success[name] = played(found, agent, asked.eval_episodes)
        print(asked.env, system, name, success[name], flush=True)
    return {
        'env': asked.env,
        'steps': asked.steps,
        'system': system,
        'success': success,
        **critic(found),
        'behaviour': recorded['data']['success_rate'],
        'devices': recorded['devices'],
        'versions': recorded['versions'],
        'date': time.strftime('%Y-%m-%d'),
    }


def main(asked: flags.FlagValues) -> None:
    path = pathlib.Path(asked.out)
    done = json.loads(path.read_text())['results'] if path.exists() else []
    known = {(row['env'], row['steps'], row['system']) for row in done}
    for system in asked.system:
        if (asked.env, asked.steps, system) not in known:
            row = measured(system, asked)
            print(*(f'  {name}: {row[name]}' for name in MEASURES), sep='\n', flush=True)
            done.append(row)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({'results': done}, indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
