"""Functions of jax that together use every operation of the graphs, and how graphs are run."""

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.runs.export.builder import Constants
from dtql_jax.runs.export.graph import make_graph
from dtql_jax.runs.export.noise import Policy
from dtql_jax.runs.export.numpy_policy import compute

OBS = np.array([0.3, -0.7, 1.2, -0.1, 0.9, -1.4], np.float32)
TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)


def graph_of(act, obs_dim=6, fixed=False):
    """A policy and its graph."""
    policy = Policy(act, obs_dim)
    obs = np.zeros(obs_dim, np.float32)
    return policy, make_graph(policy.act, obs, policy.draws, policy.median(), fixed, Constants())


def policy_of(agent):
    """`act(obs, key)` of an agent with random parameters; nothing is compiled for them."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    acting = jax.tree.map(
        lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32),
        jax.eval_shape(agent.acting, state),
    )
    return lambda obs, key: agent.act(acting, obs, key)


def run(graph, obs, noise=()):
    names = [name for name in graph.inputs if name != 'obs']
    given = dict(zip(names, map(np.asarray, noise), strict=True))
    return compute(graph.nodes, {'obs': obs, **given, **graph.constants})


def arithmetic(x):
    return (x * 2 - 1) / 3 + x**2 + x**3 + x**-1 + abs(x) ** 1.5 - (-x) + jnp.maximum(x, 0.1)


def functions(x):
    y = jnp.abs(x) / 2
    rising = jnp.exp(x) + jnp.exp2(x) + jnp.expm1(x) + jnp.sinh(x) + jnp.cosh(x) + jnp.tan(y)
    slow = jnp.log(y) + jnp.log1p(y) + jnp.sqrt(y) + jax.lax.rsqrt(y) + jnp.tanh(x)
    angles = jnp.sin(x) + jnp.cos(x) + jnp.arcsin(y) + jnp.arccos(y) + jnp.arctan(x)
    return rising + slow + angles + jax.nn.sigmoid(x) + jax.lax.erf(x) + jax.lax.erfc(x)


def activations(x):
    return jax.nn.gelu(x) + jax.nn.elu(x) + jax.nn.softplus(x) + jax.nn.softmax(x)


def rounding(x):
    return jnp.floor(x) + jnp.ceil(x) * 3 + jnp.round(x) * 7 + jnp.sign(x) + jax.lax.rem(x, 0.4)


def choices(x):
    inside = (x > -1) & (x <= 1) | (x == 7) ^ (x >= 1)
    y = jnp.where(~inside, x, jnp.clip(x, -0.5, 0.5)) + (x != x[0]) + (x < 0).astype(jnp.int32)
    return jax.lax.select(x[0] > 0, y, x)


def sums(x):
    y = x.reshape(3, 2)
    each = jnp.stack([y.sum(0), y.prod(0), y.max(0), y.min(0), y.mean(0), y.var(0)])
    return each.sum(1) + jnp.cumsum(x) + jax.lax.cumsum(x, reverse=True)


def repeats(x):
    """Sums over rows that are equal, which the graph holds once."""
    rows = jnp.broadcast_to(x, (4, 6))
    sums = rows.sum(0) + rows.prod(0) + jnp.cumsum(rows, 0)[-1] + rows.max(0)
    return sums + rows.reshape(24)[6:12] + rows[jnp.argmax(rows[:, 0])] + (rows.T @ rows)[0]


def indices(x):
    best, worst = jnp.argmax(x), jnp.argmin(x.reshape(3, 2), axis=0)
    rows = jnp.asarray(TABLE)[jnp.array([best, 0, 5])] + jnp.take(x, worst).sum()
    columns = jnp.take(jnp.asarray(TABLE), worst % 2, axis=1)[:3]
    window = jax.lax.dynamic_slice(x, (best + 3,), (2,))  # reaches beyond the end
    return (rows * x[best] + columns * x[-1]).reshape(6) + jnp.tile(window, 3)


def shapes(x):
    y = x.reshape(2, 3)
    joined = jnp.concatenate([y.T, jnp.ones((3, 1)), y[:1].T], axis=1)  # [3, 4]
    low, high = jnp.split(jnp.pad(joined, ((0, 1), (2, 0)), constant_values=2.0), 2)
    return jnp.stack([low, high], axis=1)[::-1, :, ::3].sum((1, 2), keepdims=True).repeat(3) + x


def products(x):
    (first, second), z = jnp.unstack(x.reshape(2, 3)), jnp.asarray(TABLE).reshape(2, 3, 2)
    batched = jnp.einsum('bi,bij->jb', jnp.stack([first, second]), z).reshape(4)
    return jnp.outer(x, x)[0] + TABLE @ x[:2] + x @ jnp.outer(x, OBS) + jnp.pad(batched, (0, 2))


def loops(x):
    def step(carry, row):
        return carry * 0.5 + row, carry.sum()

    carry, sums = jax.lax.scan(step, x, jnp.asarray(TABLE).reshape(2, 6))
    return jax.lax.fori_loop(0, 3, lambda i, y: y + i * x, carry) + sums[1]


def calls(x):
    @jax.custom_vjp
    def doubled(y):
        return 2 * y

    doubled.defvjp(lambda y: (2 * y, None), lambda _, dy: (2 * dy,))
    return jax.checkpoint(jnp.sin)(doubled(x))


def nothing(x):
    return jnp.ones(6)


FUNCTIONS = (
    arithmetic, functions, activations, rounding, choices, sums, repeats, indices, shapes, products,
    loops, calls, nothing,
)  # fmt: skip
