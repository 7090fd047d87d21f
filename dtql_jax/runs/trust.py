"""The trust region of a trained run, as a detector of actions that the data do not have."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.agents.clone import DiffusionClone
from dtql_jax.data.chunks import chunked
from dtql_jax.data.load import load
from dtql_jax.report.landscape import draw_landscape
from dtql_jax.runs.plan import label
from dtql_jax.runs.policy import Run, policy_of
from dtql_jax.training.compilation import own_numbers
from dtql_jax.types import Params, Spec, UserError, machine_told, user_path

TRUST_TAG = 0x74727573  # the root of the draws; no key of training derives from it
BLOCK = 256  # actions of one call of the program
ROWS = 10_000  # of the data, whose losses give a threshold
GRID = 61  # places along each side of a landscape
NEIGHBOURS = 64  # actions of the data in it
ACTIONS = 32  # of the policy

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """DTQL's trust region around the data, `(obs, action) -> loss`: large far from the data.

    Attributes:
        spec: the sizes of observations and actions.
        loss: the loss of actions `[B, A]` at observations `[B, O]`: `[B]`.
        data: loads the observations `[N, O]` and actions `[N, A]` of the run.
    """

    spec: Spec
    loss: Loss
    data: Callable[[], tuple[np.ndarray, np.ndarray]]

    @machine_told()
    def __call__(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The loss of one action `[A]` at `obs` `[O]`, or of `[B, A]` at `[B, O]`: `[B]`.

        Raises:
            UserError: the shapes are others.
        """
        obs, action = (np.asarray(x, np.float32) for x in (obs, action))
        sizes = (self.spec.obs_dim, self.spec.action_dim)
        one = obs.ndim == 1
        if obs.ndim not in (1, 2) or (*obs.shape[:-1], *sizes) != (
            *action.shape[:-1], obs.shape[-1], action.shape[-1],
        ):  # fmt: skip
            raise UserError(
                f'observations of shape {obs.shape} and actions of shape {action.shape}: the trust '
                f'region takes [{sizes[0]}] and [{sizes[1]}], or [B, {sizes[0]}] and '
                f'[B, {sizes[1]}]'
            )
        loss = self.loss(*to_agent(self.spec, np.atleast_2d(obs), np.atleast_2d(action)))
        return loss[0] if one else loss

    @machine_told()
    def threshold(
        self,
        quantile: float = 0.95,
        obs: np.ndarray | None = None,
        action: np.ndarray | None = None,
    ) -> float:
        """The loss that this share of the data's actions stays below.

        Args:
            quantile: the share.
            obs: observations `[N, O]` to take it from, such as held-out ones; without, 10,000 rows
                at most of the data that the run was trained on.
            action: their actions `[N, A]`.

        Raises:
            UserError: `quantile` is no share, the shapes do not fit, or the data cannot be loaded.
        """
        if not 0 <= quantile <= 1:
            raise UserError(f'`quantile`={quantile}: give a share from 0 to 1')
        if (obs is None) != (action is None) or (obs is not None and not len(obs)):
            raise UserError('`obs` and `action` belong together: give both, with a row at least')
        if obs is None or action is None:
            obs, action = self.data()
            rows = np.random.default_rng(0).choice(len(obs), min(len(obs), ROWS), replace=False)
            obs, action = obs[rows], action[rows]
        return float(np.quantile(self(obs, action), quantile))


@machine_told()
def trust_region(
    run_dir: str | pathlib.Path,
    seed: int | None = None,
    *,
    variant: str | None = None,
    levels: int = 16,
    draws: int = 4,
) -> TrustRegion:
    """The trust region of one seed of a run, as a function of observations and actions.

    It is the denoising loss of the run's diffusion policy `mu` after the last update, as training
    uses it. Every action gets the same noise, so that the losses of two actions can be compared and
    every process computes the same.

    Args:
        run_dir: the folder of a run of dtql, dql_kl or bc, finished or stopped.
        seed: the seed; the first one without.
        variant: the label of the lanes: a variant of the run, or 'clone'; the first without.
        levels: the number of noise levels, which are quantiles of those of training.
        draws: the number of noises at each level.

    Returns:
        A `TrustRegion`: `trust(obs, action)` is the loss, `trust.threshold(0.95)` what 95 % of the
        data's actions stay below.

    Raises:
        UserError: there is no such run or seed, or its agent has no such policy.
    """
    run = Run(run_dir)
    return trust_of(run, run.lane(seed, variant), levels, draws)


def trust_of(run: Run, lane: int, levels: int = 16, draws: int = 4) -> TrustRegion:
    """`trust_region` for a run that is read already.

    Raises:
        UserError: its agent has no diffusion policy of DTQL's kind, or the seed diverged.
    """
    agent = run.agent
    if not isinstance(agent, DiffusionClone):
        name = label(run.description['request']['agent'])
        raise UserError(
            f'{run.run_dir}: the agent {name} has no diffusion policy of the kind that DTQL '
            'trusts; use a run of dtql, dql_kl or bc'
        )
    if reason := run.missing(lane, 'last'):
        raise UserError(f'{run.run_dir}: {reason.partition(":")[0]}, so it has no trust region')
    for name, number in (('levels', levels), ('draws', draws)):
        if number < 1:
            raise UserError(f'`{name}`={number}: give at least 1')
    params = jax.tree.map(lambda x: x[lane], run.progress.state.params['mu'])
    load_data = functools.cache(functools.partial(_data, run))
    loss = trust_loss(agent, params, (np.arange(levels) + 0.5) / levels, draws)
    return TrustRegion(agent.spec, loss, load_data)


@own_numbers()
def trust_loss(agent: DiffusionClone, params: Params, level: np.ndarray, draws: int) -> Loss:
    """The trust region of the `mu` with the parameters `params`, on fixed draws.

    Args:
        agent: the agent.
        params: the parameters of its network `mu`.
        level: the noise levels, as quantiles of those of training.
        draws: the number of noises at each level.
    """
    u = jnp.tile(jnp.asarray(level, jnp.float32), draws)
    noise = jax.random.normal(jax.random.key(TRUST_TAG), (len(u), agent.spec.action_dim))
    program = jax.jit(agent.precise(agent.trust_region))

    @own_numbers()
    def loss(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        parts = []
        for begin in range(0, len(obs), BLOCK):
            block = [np.asarray(x[begin : begin + BLOCK], np.float32) for x in (obs, action)]
            count = len(block[0])
            padded = [np.resize(x, (BLOCK, x.shape[1])) for x in block]  # one shape, one program
            parts.append(np.asarray(program(params, *padded, u, noise))[:count])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    return loss


def to_agent(spec: Spec, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations and actions in the units of the agent, as `Agent.behave` sees them."""
    if spec.obs_mean:
        obs = (obs - np.array(spec.obs_mean, np.float32)) / np.array(spec.obs_std, np.float32)
    if spec.action_low:
        low, high = np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)
        action = spec.max_action * (2 * (action - low) / (high - low) - 1)
    return obs, action


def to_user(spec: Spec, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `to_agent`."""
    if spec.obs_mean:
        obs = obs * np.array(spec.obs_std, np.float32) + np.array(spec.obs_mean, np.float32)
    if spec.action_low:
        low, high = np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)
        action = low + (action / spec.max_action + 1) * (high - low) / 2
    return obs, action


def _data(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The observations and actions that a run was trained on, in the units of the user."""
    recorded = run.description['data']
    cure = 'give their observations and actions to `threshold`'
    if recorded['source'] == 'arrays':
        raise UserError(f'{run.run_dir} was trained on arrays: {cure}')
    config = run.agent.config
    loaded = load(run.task, reward=config.reward)
    if loaded.card['fingerprint'] != recorded['fingerprint']:
        raise UserError(
            f'{run.run_dir} was trained on other data than {run.task.name} has now: restore them, '
            f'or {cure}'
        )
    loaded = chunked(loaded, config.horizon_length, config.discount)
    rows = loaded.transitions
    return to_user(loaded.spec, np.asarray(rows.obs), np.asarray(rows.action))


@machine_told()
def plot_trust(
    run_dir: str | pathlib.Path,
    out: str | pathlib.Path,
    seed: int | None = None,
    state: int = 0,
    dims: Sequence[int] = (0, 1),
) -> pathlib.Path:
    """Draws the trust region over two dimensions of the action at a state, and returns `out`.

    The other dimensions are those of the data's action there. Beside the loss stand the actions of
    the data at the nearest states, and actions of the policy.

    Args:
        run_dir: the folder of the run.
        out: the picture to write; its suffix is the format.
        seed: the seed; the first one without.
        state: the row of the data whose state it is.
        dims: the two dimensions.

    Raises:
        UserError: as `trust_region`, or there is no such state or dimension.
    """
    run = Run(run_dir)
    lane = run.lane(seed)
    trust = trust_of(run, lane)
    size = trust.spec.action_dim
    if len(dims) != 2 or dims[0] == dims[1] or not all(0 <= dim < size for dim in dims):
        given = ','.join(map(str, dims))
        raise UserError(
            f'`dims`={given}: give two different dimensions of the action, which has {size}, '
            'counted from 0'
        )
    obs, action = trust.data()
    if not 0 <= state < len(obs):
        raise UserError(f'`state`={state}: the data have {len(obs):,} rows, counted from 0')
    low, high = trust.spec.box
    places = [np.linspace(low[dim], high[dim], GRID) for dim in dims]
    plane = np.tile(action[state], (GRID * GRID, 1))
    plane[:, dims] = np.stack(np.meshgrid(*places), -1).reshape(-1, 2)
    loss = trust(np.tile(obs[state], (len(plane), 1)), plane).reshape(GRID, GRID)
    here = np.tile(obs[state], (ACTIONS, 1))
    points = {
        'data at the nearest states': action[nearest(obs, state, NEIGHBOURS)][:, dims],
        'policy': policy_of(run, lane, 'last', ACTIONS)(here).reshape(ACTIONS, size)[:, dims],
    }
    name = f'{run.lanes[lane].variant} seed {run.lanes[lane].seed} on {run.task.name}'
    title = f'trust region of {name}, state {state:,}'
    return draw_landscape(
        user_path('out', out), title, places, loss, dims, points, trust.threshold()
    )


def nearest(obs: np.ndarray, row: int, count: int) -> np.ndarray:
    """The rows `[count]` of the states `obs` `[N, O]` that are nearest to that of a row.

    Each dimension counts in units of its deviation.
    """
    scale = obs.std(0)
    offset = (obs - obs[row]) / np.where(scale > 0, scale, 1)
    return np.argsort((offset**2).sum(-1), kind='stable')[:count]
