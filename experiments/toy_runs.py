"""The runs behind the toy figures, and what is kept of them: samples, and losses over the plane.

Each job is one call of `dtql_jax.run`: a set, a reward and a kind of policy, with a lane for each
regulariser and seed. They start from the networks of a job that trained only the clone and the
critic, a lane for each seed.
"""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import toy_metrics

from dtql_jax import Agent, run
from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.runs.policy import Run
from dtql_jax.tasks import toys

AGENT = f'{pathlib.Path(__file__).with_name("toy_agent.py")}:Toy'
RICHEST = '25gaussians'  # the set of figures 1 and 3
MOMENTS = (0.03, 0.2, 1.0)  # shares of the updates of the clone
SCHEDULES = ('edm', 'vp', 've')
POLICIES = ('gaussian', 'deterministic', 'implicit')
WEIGHTS = ('alpha', 'clip', 'kl', 'reverse', 'gamma', 'eta')
LIKELIHOOD = 0.005  # the weight of the released script where a policy maximises Q
# The rate of each policy; the released script has 3e-3 and batches of 10,000. With small batches an
# implicit policy under KL then runs into a corner of the box, where tanh has no gradient. The other
# two see zeros only, so that nothing but the last biases learns, each update by at most the rate.
RATES = {'gaussian': 1e-2, 'deterministic': 1e-2, 'implicit': 1e-3}
SAMPLES = 500  # of each lane
GRID = 61  # points of the landscape along each axis
LEVELS = 32  # noise levels of the landscape's loss, and draws of noise at a point
CHUNK = 61  # points at a time

# The regularisers of figure 2: the weights that are not 0.
ALONE: dict[str, dict[str, float]] = {
    'trust': {'alpha': 1.0},
    'trust clipped': {'alpha': 1.0, 'clip': 1.0},
    'KL': {'kl': 1.0},
    'reverse KL': {'reverse': 1.0},
    'forward KL': {'gamma': 1.0},
}
# The rewards of figure 3. With `same` Q is flat, as in figure 2.
REWARDS = tuple(name for name in toys.REWARDS if name != 'same')
# The regularisers beside Q, with the weight of Q.
BESIDE_Q = {'none': 1.0, 'trust': 1.0, 'KL': 1.0, 'reverse KL': 1.0, 'trust, eta 5': 5.0}


@dataclasses.dataclass(frozen=True)
class Job:
    """A run.

    Attributes:
        figure: 1 (a landscape), 2 (a regulariser alone) or 3 (beside Q); 0 trains only mu and Q.
        name: of its folder.
        request: what `dtql_jax.run` is asked for.
        after: the job whose networks it starts from.
    """

    figure: int
    name: str
    request: Mapping[str, Any]
    after: str | None = None

    @property
    def set_and_reward(self) -> tuple[str, str]:
        """The set and the reward of its task."""
        _, name, reward = self.request['env'].split('-')
        return name, reward


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is trained, and for how long."""

    sets: list[str]  # of figure 2
    rewards: list[str]  # of figure 3
    policies: list[str]  # of both
    num_seeds: int
    clone_steps: int
    clone_batch_size: int  # of the critic too
    critic_steps: int
    steps: int  # of pi
    batch_size: int


def variants(figure: int, policy: str) -> dict[str, dict[str, float]]:
    """The lanes of a job: each weight by the regulariser's name."""
    likelihood = policy == 'gaussian'  # others have no density
    chosen = {name: w for name, w in ALONE.items() if likelihood or 'gamma' not in w}
    if figure == 3:
        chosen = {
            name: {**ALONE.get(name.partition(',')[0], {}), 'eta': eta}
            for name, eta in BESIDE_Q.items()
        }
        if likelihood:
            chosen |= {
                f'{name} + likelihood': {**chosen[name], 'gamma': LIKELIHOOD}
                for name in ('none', 'trust')
            }
    return {name: {**dict.fromkeys(WEIGHTS, 0.0), **weights} for name, weights in chosen.items()}


def all_jobs(figures: tuple[int, ...], sizes: Sizes) -> Iterator[Job]:
    """The jobs of some figures; each stands behind the one that it starts from."""
    shared = {'num_seeds': sizes.num_seeds, 'eval_episodes': 1}

    def until(steps: int) -> dict[str, Any]:
        return {**shared, 'steps': steps, 'eval_every': steps}

    big = {'batch_size': sizes.clone_batch_size}
    of_toy = {'agent': AGENT, 'pretrain_steps': 0}
    of_pi = {**until(sizes.steps), 'batch_size': sizes.batch_size, 'trains': 'pi'}
    tasks = [(3, RICHEST, reward) for reward in sizes.rewards if 3 in figures]
    tasks += [(2, name, 'same') for name in sizes.sets if 2 in figures]
    known = set()
    for figure, name, reward in tasks:
        clone, base = f'{name}-clone', f'{name}-clone'
        if name not in known:
            request = {'env': f'toy-{name}-same', **of_toy, **until(sizes.clone_steps), **big}
            yield Job(0, clone, {**request, 'trains': 'mu'})
            known.add(name)
        env = f'toy-{name}-{reward}'
        if figure == 3:
            base = f'{name}-{reward}-critic'
            request = {'env': env, **of_toy, **until(sizes.critic_steps), **big}
            yield Job(0, base, {**request, 'trains': 'critic'}, after=clone)
        for policy in sizes.policies:
            request = {'env': env, **of_toy, **of_pi, 'policy': policy, 'lr': RATES[policy]}
            request['variants'] = variants(figure, policy)
            yield Job(figure, f'{name}-{reward}-{policy}', request, after=base)
    for schedule, part in itertools.product(SCHEDULES, MOMENTS if 1 in figures else ()):
        steps = max(1, round(sizes.clone_steps * part))
        request = {'env': f'toy-{RICHEST}-same', 'agent': 'bc', 'schedule': schedule}
        yield Job(1, f'landscape-{schedule}-{steps}', {**request, **until(steps), **big})


def kept(folder: pathlib.Path, job: Job) -> pathlib.Path:
    """The file of what is kept of a job."""
    return folder / f'{job.name}.npz'


def train(job: Job, folder: pathlib.Path) -> None:
    """Runs a job whose file is not there, or goes on with it, and writes what is kept."""
    path = kept(folder, job)
    if path.exists():
        return
    out = folder / job.name
    request = dict(job.request)
    if job.after is not None:
        request['init_from'] = str(folder / job.after)
    with path.with_suffix('.log').open('a') as log, contextlib.redirect_stdout(log):
        run({} if out.exists() else request, out=out, resume=out.exists())
        keep = {0: lambda _: {}, 1: landscape}.get(job.figure, samples)
        arrays = keep(Run(out))
    hidden = path.with_suffix('.part.npz')
    np.savez(hidden, **arrays)  # type: ignore[arg-type]
    hidden.rename(path)


def samples(trained: Run) -> dict[str, np.ndarray]:
    """Actions of all lanes `[S, N, 2]` by the same draws, and the lanes' variants."""
    agent, keys = trained.agent, jax.random.split(jax.random.key(0), SAMPLES)
    act = jax.vmap(agent.act, (None, None, 0))
    draw = jax.jit(lambda acting: jax.lax.map(lambda lane: act(lane, jnp.zeros(1), keys), acting))
    names = np.array([lane.variant for lane in trained.lanes])
    return {'variants': names, 'samples': np.asarray(draw(trained.acting('last')))}


def landscape(trained: Run) -> dict[str, np.ndarray]:
    """The trust-region loss of the first seed over the plane, and of all at some points.

    `loss` is `[GRID, GRID]`, by y and x; `modes` and `between` are `[S]`, the mean losses at the
    modes and halfway between neighbours; `rank` `[S]` is the rank correlation over the plane of the
    loss and the distance from the nearest mode.
    """
    (name,) = trained.task.datasets
    bound, modes = float(np.abs(toys.actions(name)).max()), toys.SETS[name]().places
    axis = np.linspace(-bound, bound, GRID)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    apart = np.linalg.norm(modes[:, None] - modes, axis=-1)
    neighbours = np.argwhere(np.triu(np.isclose(apart, apart[apart > 0].min())))
    points = np.concatenate([plane, modes, modes[neighbours].mean(1)])
    losses = np.asarray(trust_loss(trained.agent, trained.progress.state.params['mu'], points))
    over, at, between = np.split(losses, np.cumsum([len(plane), len(modes)]), axis=1)
    away = toy_metrics.ranks(np.linalg.norm(plane[:, None] - modes, axis=-1).min(1))
    rank = np.array([np.corrcoef(toy_metrics.ranks(x), away)[0, 1] for x in over])
    first = over[0].reshape(GRID, GRID)
    return {
        'axis': axis,
        'loss': first,
        'modes': at.mean(1),
        'between': between.mean(1),
        'rank': rank,
    }


def trust_loss(agent: Agent, mu: Any, points: np.ndarray) -> jax.Array:
    """The trust-region loss of the clones `mu` `[S, ...]` at points `[P, 2]`: `[S, P]`.

    It averages over `LEVELS` evenly spaced quantiles of the noise level, each with its own noise,
    the same at all points.
    """
    assert isinstance(agent, DiffusionClone)
    u = (jnp.arange(LEVELS) + 0.5) / LEVELS
    noise = jax.random.normal(jax.random.key(0), (LEVELS, 2))
    obs = jnp.zeros((CHUNK, 1))
    chunks = np.resize(points, (-(-len(points) // CHUNK), CHUNK, 2)).astype(np.float32)

    def lane(mu: Any) -> jax.Array:
        return jax.lax.map(lambda x: agent.trust_region(mu, obs, x, u, noise), jnp.array(chunks))

    losses = jax.jit(lambda mu: jax.lax.map(lane, mu))(mu)
    return losses.reshape(len(losses), -1)[:, : len(points)]
