"""Small agents with their programs, and what the tests of the contract compare them by."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents import dtql, registry
from dtql_jax.agents.base import State
from dtql_jax.agents.settings import with_default
from dtql_jax.data.columns import COLUMNS, one_row
from dtql_jax.types import Spec, Transition
from tests.helpers import toy

OBS, ACTION, BATCH = 3, 2, 8
SMALL = {'hidden': 8, 'candidates': 4}  # where an agent has such settings
SEEDS = np.array([3, 4, 3], np.uint32)
DELAY = 8  # a delayed update is due once in so many updates at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtendedConfig(dtql.Config):
    """DTQL with everything beyond the paper."""

    normalise_q: bool = with_default(dtql.Config, 'normalise_q', True)
    v_layer_norm: bool = with_default(dtql.Config, 'v_layer_norm', True)
    policy_layer_norm: bool = with_default(dtql.Config, 'policy_layer_norm', True)


class Extended(dtql.DTQL):
    """The agent of these settings."""

    config_class = ExtendedConfig


# The registry's, and two of the tests' own: one has a delayed update.
AGENTS = {
    **{name: found.agent for name, found in registry.AGENTS.items()},
    'delayed': toy.Delayed,
    'extended': Extended,
}
# Those that take long to compile; each has further tests of its own.
SLOW = {'bc', 'diffusion_ql', 'dql_kl', 'extended', 'fql', 'idql', 'ifql', 'srpo'}
# Whose updates, or actions, are without chance. Everything else must draw.
NO_NOISE = {('iql', 'train'), ('srpo', 'critic')}
NO_CHANCE = {'iql', 'rebrac', 'srpo', 'td3_bc', 'delayed'}


def marked():
    """The names of all agents, those of `SLOW` marked slow."""
    return [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in AGENTS]


def make(name, max_action=1.0, **changes):
    """A small agent."""
    config_class = AGENTS[name].config_class
    fields = {field.name for field in dataclasses.fields(config_class)}
    settings = {k: v for k, v in (SMALL | changes).items() if k in fields}
    settings |= {'steps': 50, 'batch_size': BATCH}
    return AGENTS[name](Spec(OBS, ACTION, max_action), config_class(**settings))


def batch_of(seed, rows=BATCH):
    """Random transitions, with every column that agents can ask for."""
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, rows, OBS))
    action = rng.uniform(-1, 1, (rows, ACTION))
    reward, mask = rng.normal(size=rows), rng.integers(0, 2, rows)
    shapes = one_row(Spec(OBS, ACTION), tuple(COLUMNS)).extra
    extra = {k: jnp.float32(rng.uniform(-1, 1, (rows, *x.shape[1:]))) for k, x in shapes.items()}
    return Transition(*(jnp.float32(x) for x in (obs, action, reward, mask, next_obs)), extra)


def subject_phases(name):
    """The phases that make updates."""
    return [phase for phase in make(name).phases() if phase.steps]


class Subject:
    """One agent with its programs, each compiled once for all tests; `traces` counts."""

    def __init__(self, name):
        self.name = name
        self.agent = make(name)
        self.phases = subject_phases(name)
        self.traces = dict.fromkeys(['init', 'act', *(p.name for p in self.phases)], 0)
        # On a device, like a restored state, for which nothing is compiled again then.
        where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        init = jax.vmap(lambda seed: self.agent.init(jax.random.key(seed)))
        self.init = self.jit('init', init, out_shardings=where)
        self.updates = {p.name: self.jit(p.name, p.update) for p in self.phases}
        self.act = self.jit('act', jax.vmap(self.agent.act, (None, 0, 0)))
        self.lanes = self.init(SEEDS)

    def jit(self, name, function, **options):
        @functools.wraps(function)
        def counted(*args):
            self.traces[name] += 1
            return function(*args)

        return jax.jit(counted, **options)

    def state(self, lane=0) -> State:
        return one_lane(self.lanes, lane)


subject = functools.cache(Subject)


@jax.jit
def one_lane(lanes, lane):
    """One of some lanes; in one program, since leaf by leaf each shape is compiled."""
    return jax.tree.map(lambda x: x[lane], lanes)


def described(tree):
    """Structure, shapes and dtypes."""
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), getattr(x, 'weak_type', False)), tree)


def raw(tree):
    """Leaves as numpy, keys as their words."""
    return jax.tree.leaves(toy.bits(tree))


def same(a, b):
    """Whether two trees have the same numbers."""
    return all(np.array_equal(x, y) for x, y in zip(raw(a), raw(b), strict=True))


def between(moved, *others, slack=1e-6):
    """Whether every entry lies between some others, which a running average does."""
    moved, *trees = (np.concatenate([x.ravel() for x in raw(t)]) for t in (moved, *others))
    low, high = np.min(trees, axis=0), np.max(trees, axis=0)
    return bool((moved >= low - slack).all() and (moved <= high + slack).all())


def on_first_device(x):
    """Shape, dtype and device, as a restore asks for them."""
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
