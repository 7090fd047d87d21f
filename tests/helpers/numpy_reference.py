"""One training update in NumPy float64, for agents without a trace of released code.

It shares only the names of parameters with the package: networks are written out again, gradients
are central differences, and Adam is the paper's. Trees are flat dicts `path -> array`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtql_jax.agents.base import State

Flat = dict[str, np.ndarray]


def flat(tree, prefix: str = '') -> Flat:
    """A tree of parameters as `{'a/b/kernel': float64 array}`."""
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree, np.float64)}
    return {k: v for name in tree for k, v in flat(tree[name], f'{prefix}/{name}').items()}


# Networks.


def relu(x):
    return np.maximum(x, 0)


def swish(x):
    return x / (1 + np.exp(-x))


def dense(p: Flat, name: str, x):
    return x @ p[f'{name}/kernel'] + p[f'{name}/bias']


def mlp(p: Flat, names: list[str], x, activation):
    for name in names[:-1]:
        x = activation(dense(p, name, x))
    return dense(p, names[-1], x)


def layer_norm(p: Flat, name: str, x, epsilon: float):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * p[f'{name}/scale'] + p[f'{name}/bias']


def twin_q(p: Flat, layer: str, obs, action):
    """`[2, B]`."""
    x = np.concatenate([obs, action], -1)
    members = [[f'/{name}/{layer}_{i}' for i in range(3)] for name in ('q1', 'q2')]
    return np.stack([mlp(p, names, x, relu)[:, 0] for names in members])


def value(p: Flat, layer: str, obs, input_norm: float | None = None):
    """`[B]`."""
    x = obs if input_norm is None else layer_norm(p, '/norm', obs, input_norm)
    return mlp(p, [f'/v/{layer}_{i}' for i in range(3)], x, relu)[:, 0]


# IQL's critic.


def expectile_loss(q, v, expectile: float) -> float:
    return float(np.mean([(expectile if d > 0 else 1 - expectile) * d * d for d in q - v]))


def squared_errors(q, reward, mask, next_v, discount: float):
    """`[2, B]`."""
    return (q - (reward + discount * mask * next_v)) ** 2


# One step.


@dataclasses.dataclass
class Adam:
    """The state of an optimiser before a step."""

    count: int
    m: Flat
    v: Flat


@dataclasses.dataclass
class Step:
    """The expected result of a step; NaN where it was not computed."""

    loss: float
    gradient: Flat
    params: Flat
    m: Flat
    v: Flat


def descend(
    loss: Callable[[Flat], float],
    params: Flat,
    adam: Adam,
    lr: float,
    weight_decay: float = 0.0,
    entries: int | None = None,
) -> Step:
    """AdamW on central differences, of all entries or of `entries` of each tensor."""
    rng = np.random.default_rng(0)
    gradient = {k: np.full(p.shape, np.nan) for k, p in params.items()}
    for name, p in params.items():
        count = p.size if entries is None else min(entries, p.size)
        for i in rng.choice(p.size, count, replace=False):
            kept, sides = p.flat[i], []
            for h in (1e-6, -1e-6):
                p.flat[i] = kept + h
                sides.append(loss(params))
            p.flat[i] = kept
            gradient[name].flat[i] = (sides[0] - sides[1]) / 2e-6
    t = adam.count + 1
    m = {k: 0.9 * adam.m[k] + 0.1 * g for k, g in gradient.items()}
    v = {k: 0.999 * adam.v[k] + 0.001 * g * g for k, g in gradient.items()}
    new = {}
    for k, p in params.items():
        direction = (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
        new[k] = p - lr * (direction + weight_decay * p)
    return Step(loss(params), gradient, new, m, v)


def average(target: Flat, params: Flat, rate: float) -> Flat:
    return {k: (1 - rate) * target[k] + rate * params[k] for k in params}


# The package's state, and comparisons with it.


def is_adam(x) -> bool:
    return isinstance(x, optax.ScaleByAdamState)


def adam_of(state: State, name: str) -> Adam:
    found = [x for x in jax.tree.leaves(state.opt[name], is_leaf=is_adam) if is_adam(x)]
    assert len(found) == 1
    return Adam(int(found[0].count), flat(found[0].mu), flat(found[0].nu))


def stirred(state: State, step: int) -> State:
    """`state` as in the middle of a run: no zero bias, targets apart from networks, moments in use.

    Adam's first step hardly depends on the size of the gradient; a later step does.
    """
    rng = np.random.default_rng(1)

    def normal(scale):
        """Adds noise that is smaller on wide layers, so outputs stay of order 1."""

        def add(x):
            fan_in = x.shape[-2] if x.ndim > 1 else 1
            noise = np.float32(scale * fan_in**-0.5 * rng.normal(size=x.shape))
            return jnp.asarray(np.asarray(x) + noise)

        return add

    def moments(x):
        if not is_adam(x):
            return x
        uniform = lambda p: jnp.float32(rng.uniform(0.01, 0.1, p.shape))  # noqa: E731
        return optax.ScaleByAdamState(
            count=jnp.int32(step),
            mu=jax.tree.map(normal(0.05), x.mu),
            nu=jax.tree.map(uniform, x.nu),
        )

    params = jax.tree.map(normal(0.3), state.params)
    target = {k: jax.tree.map(normal(0.2), params[k]) for k in state.target}
    opt = jax.tree.map(moments, state.opt, is_leaf=is_adam)
    return state.replace(params=params, target=target, opt=opt, step=jnp.int32(step))


def assert_step(before: State, after: State, name: str, step: Step) -> None:
    """Compares gradient, moments and parameters of one network."""
    old, new = adam_of(before, name), adam_of(after, name)
    assert new.count == old.count + 1
    gradient = {k: (new.m[k] - 0.9 * old.m[k]) / 0.1 for k in new.m}
    assert_tree(gradient, step.gradient, f'{name}: gradient', rtol=2e-4, atol=2e-6)
    assert_tree(new.m, step.m, f'{name}: first moment', rtol=2e-5, atol=1e-6)
    assert_tree(new.v, step.v, f'{name}: second moment', rtol=2e-5, atol=1e-6)
    assert_tree(flat(after.params[name]), step.params, f'{name}: parameters')


def assert_tree(ours: Flat, expected: Flat, label: str, rtol: float = 0, atol: float = 1e-6):
    """Compares every tensor at the entries that were computed."""
    assert set(ours) == set(expected), label
    for name, value in expected.items():
        known = ~np.isnan(value)
        assert known.any()
        np.testing.assert_allclose(
            ours[name][known], value[known], rtol=rtol, atol=atol, err_msg=f'{label} {name}'
        )
