"""How well the trust region tells actions of the data from others, beside other detectors.

  python experiments/studies/detector.py                      # five sets
  python experiments/studies/detector.py --envs=hopper-medium --steps=2000 --out=hopper.json

A tenth of the episodes is held out. DTQL and a Gaussian clone are trained on the others. A detector
gives a number to an action at a state, larger for what is less like the data. Its AUROC is the
share of pairs in which an action of some kind has a larger number than one of the held-out data;
0.5 tells nothing. The kinds are actions of other states, the data's with noise of 0.1 and 0.3 of
the box's half width, uniform ones, and the trained policy's: all, and by thirds of what they gain
in Q over the data's action. The detectors:

  trust      the trust region, as training uses it
  trust_low  the same at the tenth of the noise levels that is lowest
  gaussian   minus the log density of a Gaussian clone
  nearest    distance to the 5th nearest state and action of the data
  spread_q   deviation of Q over the critics of all seeds

The result file keeps what is done: started again, the script continues where it was stopped.
"""

import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from dtql_jax.agents import base
from dtql_jax.agents.base import State
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.settings import setting
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.collect.write import collect_missing
from dtql_jax.data.load import Dataset, load
from dtql_jax.nn import losses
from dtql_jax.nn.layers import apply
from dtql_jax.nn.policies import GaussianPolicy
from dtql_jax.report.statistics import auroc, rank_correlation
from dtql_jax.runs.folder import versions
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.runs.trust import trust_loss
from dtql_jax.training.compilation import start_jax
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Metrics, Phase, Transition, UserError

ENVS = [
    'hopper-medium',
    'halfcheetah-medium',
    'door-human',
    'pointmaze-medium',
    'antmaze-large-navigate-singletask-task1-v0',
]
FLAGS = flags.FlagValues()
flags.DEFINE_list('envs', ENVS, 'tasks', FLAGS)
define_whole('seeds', 2, 'seeds of DTQL and of the Gaussian clone', FLAGS)
define_whole('pretrain_steps', 1_000, 'updates of mu and the critic before the policy', FLAGS)
define_whole('steps', 4_000, 'updates of all networks', FLAGS)
define_whole('hidden', 128, 'width of all networks', FLAGS)
define_whole('rows', 1_000, 'held-out rows that are measured, at most', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/detector.json', 'JSON file to write', FLAGS)

HELD_OUT = 0.1  # of the episodes
NOISES = (0.1, 0.3)  # in units of the box's half width
LEVEL = (np.arange(16) + 0.5) / 16  # of the trust region, as `trust_region` has them
DRAWS = 4
THIRDS = ('least', 'middle', 'most')  # of the policy's actions, by their gain in Q
NEIGHBOUR = 5
REFERENCE = 50_000  # rows of the data among which neighbours are looked for

Detector = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (obs, action) -> [B]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianConfig(base.Config):
    """The settings of `GaussianClone`."""

    lr: float = setting(3e-4, 'learning rate')
    hidden: int = setting(256, 'width of the hidden layers', least=1)


class GaussianClone(base.Agent):
    """A Gaussian of the data's actions at each state, trained by likelihood, without tanh."""

    config: GaussianConfig
    config_class = GaussianConfig

    def networks(self) -> dict[str, tuple]:
        net = GaussianPolicy(self.spec.action_dim, self.config.hidden)
        return {'pi': (net, self.examples[:1])}

    def phases(self) -> tuple[Phase, ...]:
        return (Phase('train', self.train, self.config.steps, self.config.batch_size),)

    def train(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        state, metrics = self.descend(state, 'pi', state.hparams['lr'], self.loss, batch)
        return state.replace(step=state.step + 1), metrics

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, Metrics]:
        loss = self.surprise(state.params['pi'], batch.obs, batch.action).mean()
        return loss, {'pi/loss': loss}

    def surprise(self, params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Minus the log density of `action` `[B, A]`: `[B]`."""
        return -losses.gaussian_log_prob(action, *apply(self.networks()['pi'][0], params, obs))


def split(length: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of all episodes, of these lengths `[E]`, but a share of two at least; its rows."""
    rng, out = np.random.default_rng(0), np.zeros(len(length), bool)
    out[rng.choice(len(length), max(2, round(share * len(length))), replace=False)] = True
    held = np.repeat(out, length)
    return np.flatnonzero(~held), rng.permutation(np.flatnonzero(held))


def trained(agent: base.Agent, data: Transition, seeds: int) -> State:
    """The states of all seeds after all phases, `[S, ...]`."""
    engine = Engine(agent, data, [Lane('agent', seed) for seed in range(seeds)])
    state = engine.init()
    for phase in agent.phases():
        state, _, finite = engine.dispatch(phase, state, engine.zeros(phase), phase.steps)
    assert np.asarray(finite).all(), 'a seed diverged'
    return state


def distance_to_nearest(data: Transition) -> Detector:
    """The distance to the 5th nearest row of the data, each dimension in its deviation."""
    rows = np.concatenate([data.obs, data.action], 1)
    keep = np.random.default_rng(0).choice(len(rows), min(len(rows), REFERENCE), replace=False)
    scale = rows.std(0)
    scale = np.where(scale > 1e-6, scale, 1)
    known = rows[keep] / scale
    square = (known**2).sum(1)

    def distance(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        asked, parts = np.concatenate([obs, action], 1) / scale, []
        for x in np.array_split(asked, max(1, len(asked) // 200)):
            squares = (x**2).sum(1)[:, None] + square - 2 * x @ known.T
            parts.append(np.partition(squares, NEIGHBOUR - 1, 1)[:, NEIGHBOUR - 1])
        return np.concatenate(parts)

    return distance


def detectors(
    agent: DTQL, states: State, clone: GaussianClone, clones: State, data: Transition
) -> list[dict[str, Detector]]:
    """The detectors of each seed, by name."""

    @jax.jit
    def spread(critics: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        q = jax.vmap(lambda critic: apply(agent.q, critic['q'], obs, action))(critics)
        return q.reshape(-1, len(obs)).std(0)

    surprise = jax.jit(clone.surprise)
    of_all = {
        'nearest': distance_to_nearest(data),
        'spread_q': functools.partial(spread, states.params['critic']),
    }
    found = []
    for i in range(len(states.step)):
        mu, pi = jax.tree.map(lambda x, i=i: x[i], (states.params['mu'], clones.params['pi']))
        mine = {
            'trust': trust_loss(agent, mu, LEVEL, DRAWS),
            'trust_low': trust_loss(agent, mu, LEVEL / 10, DRAWS),
            'gaussian': functools.partial(surprise, pi),
        }
        found.append(mine | of_all)
    return found


def foreign(action: np.ndarray, bound: float) -> dict[str, np.ndarray]:
    """Actions that are not the data's `action` `[B, A]` at the same states, by kind."""
    rng = np.random.default_rng(1)
    kinds = {'other_state': action[rng.permutation(len(action))]}
    for noise in NOISES:
        noisy = action + noise * bound * rng.normal(size=action.shape)
        kinds[f'noise_{noise}'] = np.clip(noisy, -bound, bound)
    kinds['uniform'] = rng.uniform(-bound, bound, action.shape)
    return {name: value.astype(np.float32) for name, value in kinds.items()}


def policy_actions(
    agent: DTQL, state: State, obs: np.ndarray, action: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A seed's actions at `obs`, and what each gains in min Q over the data's action there."""

    @jax.jit
    def act(state: State, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.key(0), len(obs))
        acting = agent.acting(state)
        mine = jax.lax.map(lambda x: agent.act(acting, *x), (obs, keys), batch_size=50)
        q, before = (apply(agent.q, state.params['critic']['q'], obs, a).min(0)
                     for a in (mine, action))  # fmt: skip
        return mine, q - before

    mine, gain = act(state, obs, action)
    return np.asarray(mine), np.asarray(gain)


def measure(
    found: dict[str, Detector], data: Transition, sets: dict[str, tuple], gain: np.ndarray
) -> dict[str, Any]:
    """The AUROC of a seed's detectors for each of `sets` but the first, the held-out data.

    With it come the rank correlation of a detector's numbers for the policy's actions with their
    gain, and the shares of the sets above the trust region's 0.95 quantile on the training data.
    """
    auc: dict[str, Any] = {}
    for name, detector in found.items():
        own, *others = (np.asarray(detector(*pair)) for pair in sets.values())
        auc[name] = {k: auroc(own, x) for k, x in zip(list(sets)[1:], others, strict=True)}
        of_policy = others[list(sets).index('policy') - 1]
        auc[name]['rank_with_gain'] = rank_correlation(of_policy, gain)
    rows = np.random.default_rng(0).choice(len(data.obs), min(len(data.obs), 10_000), replace=False)
    limit = np.quantile(found['trust'](data.obs[rows], data.action[rows]), 0.95)
    alarms = {k: float((found['trust'](*pair) > limit).mean()) for k, pair in sets.items()}
    return {'auroc': auc, 'alarms': alarms}


def study(env: str, asked: flags.FlagValues) -> dict[str, Any]:
    """All that is measured on a set."""
    changes = {name: asked[name].value for name in ('pretrain_steps', 'steps', 'hidden')}
    changes |= {'lr': 3e-4, 'lr_decay': False, 'batch_size': 256, 'candidates': 64}
    plan = make_plan(make_request({'env': env, **changes}))
    dataset: Dataset = load(plan.task, reward=plan.config.reward, collect=collect_missing)
    rows, held = split(dataset.length, HELD_OUT)
    held = held[: asked.rows]
    whole, bound = dataset.transitions, dataset.spec.max_action
    data = Transition(*(x[rows] for x in whole[:5]))
    obs, action = whole.obs[held], whole.action[held]
    agent = DTQL(dataset.spec, plan.config)
    states = trained(agent, data, asked.seeds)
    steps = asked.pretrain_steps + asked.steps
    clone = GaussianClone(dataset.spec, GaussianConfig(hidden=asked.hidden, steps=steps))
    clones, seeds = trained(clone, data, asked.seeds), []
    for i, found in enumerate(detectors(agent, states, clone, clones, data)):
        mine, gain = policy_actions(agent, jax.tree.map(lambda x, i=i: x[i], states), obs, action)
        sets = {'data': action, **foreign(action, bound), 'policy': mine}
        pairs = {name: (obs, value) for name, value in sets.items()}
        for third, label in zip(np.array_split(np.argsort(gain), 3), THIRDS, strict=True):
            pairs[f'policy_{label}_gain'] = (obs[third], mine[third])
        seeds.append(measure(found, data, pairs, gain))
    return {
        'env': env,
        'data': {name: dataset.card[name] for name in ('source', 'fingerprint')},
        'rows': {'train': len(rows), 'measured': len(held)},
        'settings': dataclasses.asdict(plan.config),
        'seeds': seeds,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The AUROC as Markdown, means over the seeds."""
    kinds = list(next(iter(rows[0]['seeds'][0]['auroc'].values())))
    lines = [f'| set | detector | {" | ".join(kinds)} |', '|---' * (2 + len(kinds)) + '|']
    for row in rows:
        for name in row['seeds'][0]['auroc']:
            means = (np.mean([s['auroc'][name][k] for s in row['seeds']]) for k in kinds)
            lines.append(f'| {row["env"]} | {name} | {" | ".join(f"{x:.2f}" for x in means)} |')
        alarms = (np.mean([s['alarms'].get(k, np.nan) for s in row['seeds']]) for k in kinds)
        own = np.mean([s['alarms']['data'] for s in row['seeds']])
        texts = ' | '.join(f'{x:.2f}' for x in alarms)
        lines.append(f'| {row["env"]} | alarms (held-out data: {own:.2f}) | {texts} |')
    return '\n'.join(lines)


def main(asked: flags.FlagValues) -> None:
    start_jax()
    out = pathlib.Path(asked.out)
    rows = json.loads(out.read_text())['results'] if out.exists() else []
    changes = {name: asked[name].value for name in ('pretrain_steps', 'steps', 'hidden')}
    for row in (row for row in rows if row['env'] in asked.envs):
        if not changes.items() <= row['settings'].items() or len(row['seeds']) != asked.seeds:
            raise UserError(f'{out} has {row["env"]} with other settings: name another file')
    for env in asked.envs:
        if env not in [row['env'] for row in rows]:
            rows.append(study(env, asked))
            head = {'device': str(jax.local_devices()[0]), 'versions': versions()}
            head['date'] = time.strftime('%Y-%m-%d')
            out.write_text(json.dumps({**head, 'results': rows}, indent=1) + '\n')
            print(env, flush=True)
    print(table(rows))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
