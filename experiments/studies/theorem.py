"""DTQL's trust region against -log p(a | s), for Gaussian mixtures, whose density is known.

  python experiments/studies/theorem.py
  python experiments/studies/theorem.py --steps=500 --levels=16 --out=x.json --figure=x.png

Three states have a mixture of actions each. For every schedule the loss is computed over a grid of
actions with the ideal denoiser and with one that is trained as the agent `bc`, clipped to the box
and not, with the weight of the released code and with that of the ELBO. Expectations over noise are
quadratures, over even steps of ln sigma too. `docs/trust_region.md` has the derivation.
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from dtql_jax.agents.bc import BC, Config
from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.diffusion import SCHEDULES
from dtql_jax.diffusion.bound import Levels
from dtql_jax.diffusion.mixture import GaussianMixture
from dtql_jax.report.statistics import rank_correlation
from dtql_jax.runs.folder import versions
from dtql_jax.training.compilation import start_jax
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Params, Spec, Transition

FLAGS = flags.FlagValues()
define_whole('steps', 6_000, 'updates of each trained denoiser', FLAGS)
define_whole('hidden', 96, 'width of its layers', FLAGS)
define_whole('batch_size', 256, 'its batch size', FLAGS)
define_whole('levels', 40, 'noise levels of the quadrature', FLAGS)
define_whole('grid', 31, 'actions along a side of the grid, which reaches 1.5 times the box', FLAGS)
flags.DEFINE_string('out', 'benchmarks/results/theorem.json', 'JSON file to write', FLAGS)
flags.DEFINE_string('figure', 'docs/trust-region.png', 'picture to write', FLAGS)

DIMS = 2
SAMPLES, HELD_OUT = 20_000, 300  # actions of each state: trained on, measured on
REACH = 1.5  # of the grid, in units of the box
TOLERANCE = 0.05  # nats that a bound may be short of its target: errors of the quadratures
RADII, ANGLES = 8, 10  # of the quadrature over the noise

CELL = ('schedule', 'denoiser', 'clip', 'weight')
Denoise = Callable[[jax.Array, jax.Array], jax.Array]  # (x [B, A], sigma [B]) -> [B, A]


def _mixture(mean: Any, weight: Any = None) -> GaussianMixture:
    mean = np.asarray(mean, np.float64)
    weight = np.full(len(mean), 1 / len(mean)) if weight is None else np.asarray(weight)
    return GaussianMixture(mean, np.full(len(mean), 0.05), weight)


TURN = 2 * np.pi * np.arange(8) / 8
SIDE = np.linspace(-0.8, 0.8, 5)
STATES = {
    'ring': _mixture(0.7 * np.stack([np.cos(TURN), np.sin(TURN)], 1)),
    'grid': _mixture(np.stack(np.meshgrid(SIDE, SIDE), -1).reshape(-1, 2)),
    'pair': _mixture([[-0.5, 0.0], [0.5, 0.0]], [0.2, 0.8]),
}


def quadrature(levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `[J, M, 2]` and weights `[M]` of expectations over two-dimensional normal noise.

    Radii are Gauss and Laguerre's, as half their squares are exponential; angles turn with levels.
    """
    half, weight = np.polynomial.laguerre.laggauss(RADII)
    turn = (np.arange(levels)[:, None] * 0.618 + np.arange(ANGLES)) * 2 * np.pi / ANGLES
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)  # [J, angles, 2]
    points = np.sqrt(2 * half)[:, None, None] * circle[:, None]
    return points.reshape(levels, -1, 2), np.repeat(weight / ANGLES, ANGLES)


def errors(denoise: Denoise, action: np.ndarray, levels: Levels, clips: Any) -> list[np.ndarray]:
    """`E |D(a + sigma noise) - a|^2` `[N, J]` of actions `[N, 2]`, for each bound of `clips`."""
    points, weight = quadrature(len(levels.sigma))

    @jax.jit
    def at(denoise: Denoise, level: Any, action: jax.Array) -> list[jax.Array]:
        sigma, point = level
        x = action[:, None] + sigma * point
        denoised = denoise(x.reshape(-1, DIMS), jnp.full(x.shape[0] * x.shape[1], sigma))
        found = []
        for clip in clips:
            d = denoised if clip is None else jnp.clip(denoised, -clip, clip)
            off = d.reshape(x.shape) - action[:, None]
            found.append((off**2).sum(-1) @ jnp.asarray(weight, x.dtype))
        return found

    denoise = jax.tree_util.Partial(denoise)  # its parameters are data of the program
    inputs = zip(levels.sigma, points, strict=True)
    rows = [at(denoise, level, jnp.asarray(action)) for level in inputs]
    return [np.stack([np.asarray(row[i]) for row in rows], 1) for i in range(len(clips))]


def noisy_surprise(
    data: GaussianMixture, action: np.ndarray, levels: Levels
) -> tuple[np.ndarray, float]:
    """`E -ln p_tau(a + tau noise)` at all edges but the last `[N, J]`, p_tau that of noisy copies.

    With it comes the largest KL divergence of an action's copies from the data's at the last edge.
    """
    points, weight = quadrature(len(levels.edge))
    columns = [
        -np.asarray(data.log_density(jnp.asarray(action)[:, None] + tau * point, 1.0, tau)) @ weight
        for tau, point in zip(levels.edge, points, strict=True)
    ]
    entropy = DIMS / 2 * np.log(2 * np.pi * np.e * levels.edge[-1] ** 2)
    return np.stack(columns[:-1], 1), float((columns[-1] - entropy).max())


def actions_of(data: GaussianMixture, side: int) -> dict[str, np.ndarray]:
    """The actions at which all is measured, by region."""
    places = np.linspace(-REACH, REACH, side)
    plane = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    inside = np.abs(plane).max(1) <= 1 + 1e-9
    data_too = {'data': drawn(data, HELD_OUT, seed=1), 'modes': data.mean}
    return {'box': plane[inside], 'outside': plane[~inside], **data_too}


def drawn(data: GaussianMixture, count: int, seed: int) -> np.ndarray:
    """Samples of a mixture, `[count, 2]`."""
    rng = np.random.default_rng(seed)
    return data.sample(rng.uniform(size=count), rng.normal(size=(count, DIMS)))


def train(schedule: str, clip: bool, asked: Any) -> tuple[DiffusionClone, Params]:
    """The agent `bc` on samples of all states, and the parameters of its denoiser."""
    parts = [drawn(data, SAMPLES, seed=0) for data in STATES.values()]
    obs = np.repeat(np.eye(len(STATES), dtype=np.float32), SAMPLES, axis=0)
    action = np.concatenate(parts).astype(np.float32)
    zeros = np.zeros(len(obs), np.float32)
    config = Config(
        schedule=schedule, clip_denoised=clip, hidden=asked.hidden, steps=asked.steps,
        batch_size=asked.batch_size, lr=1e-3, lr_decay=True,
    )  # fmt: skip
    agent = BC(Spec(len(STATES), DIMS), config)
    engine = Engine(agent, Transition(obs, action, zeros, zeros, obs), [Lane('bc', 0)])
    (phase,) = agent.phases()
    state, *_ = engine.dispatch(phase, engine.init(), engine.zeros(phase), phase.steps)
    return agent, jax.tree.map(lambda x: x[0], state.params['mu'])


def trained_denoiser(agent: DiffusionClone, params: Params, state: str) -> Denoise:
    """The trained denoiser at a state, unclipped."""
    one_hot = jnp.asarray(np.eye(len(STATES), dtype=np.float32)[list(STATES).index(state)])

    def denoise(params: Params, obs: jax.Array, x: jax.Array, sigma: jax.Array) -> jax.Array:
        network = agent.network(params, jnp.tile(obs, (len(x), 1)))
        return agent.schedule.denoise(network, x, sigma, None)

    return jax.tree_util.Partial(denoise, params, one_hot)


def all_errors(
    name: str, action: dict[str, np.ndarray], levels: Levels, asked: Any
) -> dict[tuple[str, str, bool], np.ndarray]:
    """The errors `[N, J]` by state, denoiser and whether it is clipped, for EDM in training too."""
    found, both = {}, (None, 1.0)
    networks = {None: train(name, False, asked)}
    if SCHEDULES[name].clip_in_loss:
        networks[1.0] = train(name, True, asked)
    for state, data in STATES.items():
        with jax.enable_x64(True):
            ideal = errors(lambda x, s, d=data: d.denoise(x, 1.0, s), action[state], levels, both)
        for clip, error in zip(both, ideal, strict=True):
            found[state, 'ideal', clip is not None] = error
        for own, network in networks.items():
            clips = (own,) if len(networks) > 1 else both
            denoise = trained_denoiser(*network, state)
            small = errors(denoise, action[state].astype(np.float32), levels, clips)
            for clip, error in zip(clips, small, strict=True):
                found[state, 'trained', clip is not None] = error.astype(np.float64)
    return found


def measure(
    data: GaussianMixture,
    where: dict[str, np.ndarray],
    noisy: tuple[np.ndarray, float],
    loss: np.ndarray,
    levels: Levels,
    weight: str,
) -> dict[str, Any]:
    """How a loss in nats at all actions `[N]` stands to -log p and, `noisy`, to -log p_tau."""
    action = np.concatenate(list(where.values()))
    surprise = -np.asarray(data.log_density(jnp.asarray(action)))
    mass, bound = levels.mass(weight), loss + levels.constant(weight, noisy[1])
    # A bound on what noise of tau makes of copies that had it before: of data blurred twice.
    target, slack = np.zeros(len(action)), bound - surprise
    for tau, rise in zip(levels.edge[:-1], mass, strict=True):
        target -= rise * np.asarray(data.log_density(jnp.asarray(action), 1.0, np.sqrt(2) * tau))
    region = np.repeat(list(where), [len(x) for x in where.values()])
    inner = region != 'outside'
    best = np.flatnonzero(inner)[loss[inner].argmin()]
    row: dict[str, Any] = {
        'identity_error': float(np.abs(bound - noisy[0] @ mass)[inner].max()),
        'minimum_at': action[best].round(3).tolist(),
        'minimum_excess_nats': float(surprise[best] - surprise[inner].min()),
    }
    for name in ('box', 'outside', 'data'):
        at = region == name
        row[name] = {
            'rank_correlation': rank_correlation(loss[at], surprise[at]),
            'rank_correlation_blurred': rank_correlation(loss[at], target[at]),
            'holds': float((slack[at] >= -TOLERANCE).mean()),
            'holds_blurred': float((bound[at] >= target[at] - TOLERANCE).mean()),
            'slack_nats': [float(x) for x in np.quantile(slack[at], [0, 0.5, 1])],
        }
    return row


def draw(maps: dict[tuple, np.ndarray], path: pathlib.Path) -> None:
    """Draws -log p and losses over the box: log(1 + nats above the least), each on its scale."""
    shown = {
        '-log p': None,
        'EDM as released, ideal D': ('edm', 'ideal', False, 'released'),
        'VE = ELBO, ideal D': ('ve', 'ideal', False, 'released'),
        'EDM as released, trained D': ('edm', 'trained', True, 'released'),
        'VE = ELBO, trained D': ('ve', 'trained', False, 'released'),
    }
    figure = Figure(figsize=(13, 5.4), dpi=80, layout='constrained')
    axes = figure.subplots(2, len(shown), sharex=True, sharey=True)
    for row, state in zip(axes, ('ring', 'pair'), strict=True):
        row[0].set_ylabel(f'state: {state}')
        for axis, (title, cell) in zip(row, shown.items(), strict=True):
            side = np.sqrt(len(maps[state, cell])).astype(int)
            loss = maps[state, cell].reshape(side, side)
            above = loss - loss.min()
            shades = {'cmap': 'cividis', 'interpolation': 'bilinear', 'extent': (-1, 1, -1, 1)}
            axis.imshow(np.log10(1 + above), origin='lower', **shades)
            axis.plot(*STATES[state].mean.T, 'x', color='white', ms=5, mew=1.2)
            head = f'{title}\n' if state == 'ring' else ''
            axis.set_title(f'{head}up to {above.max():.0f} nats above its least', fontsize=9)
    figure.savefig(path)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, three numbers for the three states."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        'rank, box': lambda row: f'{row["box"]["rank_correlation"]:.2f}',
        'rank, data': lambda row: f'{row["data"]["rank_correlation"]:.2f}',
        'holds': lambda row: f'{row["box"]["holds"]:.2f}',
        'least slack': lambda row: f'{row["box"]["slack_nats"][0]:.1f}',
        'holds, blurred': lambda row: f'{row["box"]["holds_blurred"]:.2f}',
        'slack, data': lambda row: f'{row["data"]["slack_nats"][1]:.1f}',
        'excess': lambda row: f'{row["minimum_excess_nats"]:.1f}',
    }
    lines = [f'| {" | ".join((*CELL, *columns))} |', '|---' * (len(CELL) + len(columns)) + '|']
    for cell in dict.fromkeys(tuple(row[n] for n in CELL) for row in rows):
        here = [row for row in rows if tuple(row[n] for n in CELL) == cell]
        texts = (', '.join(map(text, here)) for text in columns.values())
        lines.append(f'| {" | ".join((*map(str, cell), *texts))} |')
    return '\n'.join(lines)


def main(asked: flags.FlagValues) -> None:
    start_jax()
    where = {state: actions_of(data, asked.grid) for state, data in STATES.items()}
    action = {state: np.concatenate(list(parts.values())) for state, parts in where.items()}
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    maps: dict[tuple, np.ndarray] = {}
    for name, schedule in SCHEDULES.items():
        levels = Levels(schedule(), asked.levels, DIMS)
        facts[name] = {'nats_per_unit': levels.unit, 'weight_falls_by': levels.falls_by('released')}
        noisy = {s: noisy_surprise(data, action[s], levels) for s, data in STATES.items()}
        for (state, denoiser, clip), error in all_errors(name, action, levels, asked).items():
            for weight in levels.weights:
                cell, loss = (name, denoiser, clip, weight), levels.loss(error, weight)
                found = measure(STATES[state], where[state], noisy[state], loss, levels, weight)
                rows.append({'state': state, **dict(zip(CELL, cell, strict=True)), **found})
                maps[state, cell] = loss[: len(where[state]['box'])]
        print(name, flush=True)
    for state, data in STATES.items():
        maps[state, None] = -np.asarray(data.log_density(jnp.asarray(where[state]['box'])))
    head = {name: asked[name].value for name in ('steps', 'hidden', 'batch_size', 'levels', 'grid')}
    head |= {'tolerance_nats': TOLERANCE, 'schedules': facts}
    head |= {'device': str(jax.local_devices()[0]), 'versions': versions()}
    head['date'] = time.strftime('%Y-%m-%d')
    pathlib.Path(asked.out).write_text(json.dumps({**head, 'results': rows}, indent=1) + '\n')
    draw(maps, pathlib.Path(asked.figure))
    print(table(rows))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
