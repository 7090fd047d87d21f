"""The limit: what DTQL's update costs at least, what this machine can do, and the share reached.

  python benchmarks/limit.py [--sizes=17/6/256 --seeds=1 --out=FILE]

The operations of matrix products are counted term by term from the networks. A product counts where
a loss needs it: there is no gradient of a network that the loss does not train, and none of an
input that needs none. The bytes are those of the parameters, Adam's moments and the target, each
read and written once, and of the batch; activations may stay in a cache.

Training takes turns with three programs: products of squares, of which the fastest rate is the
limit; a sum over memory; and the update's own products and nothing else. The shapes of the products
explain what lies between the last and the limit, everything else what lies between it and training.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
from absl import flags
from measure import ANTMAZE, PEN, WALKER, Case, Report, Timer, TrainingTimer

from dtql_jax.agents.base import State
from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import Params, Spec

FLAGS = measure.make_flags(blocks=7, block_seconds=3.0)
SIZES = [f'{WALKER}/256', f'{ANTMAZE}/2048', f'{PEN}/256']
flags.DEFINE_list('sizes', SIZES, 'observation/action/batch', FLAGS)
define_whole('seeds', 1, 'seeds trained at once', FLAGS)

SQUARES = (256, 512, 1024, 2048, 4096)
STREAM_FLOATS = 64 * 2**20  # far beyond any cache


def products(params: Params) -> list[tuple[int, int]]:
    """Inputs and outputs of every linear layer, in order of use."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [leaf.shape for path, leaf in leaves if path[-1].key == 'kernel']


# A product of a batch: its kind ('xw' forward, 'gw' gradient of activations, 'xg' of weights), and
# the inputs and outputs of the layer.
Product = tuple[str, int, int]


def passes(layers: list[tuple[int, int]], train: bool, inputs: int | None) -> list[Product]:
    """Products of a pass: forward, gradients of weights with `train`, gradients of activations.

    `inputs` is how many inputs of the first layer need a gradient; None: nothing is differentiated.
    """
    made = [('xw', i, o) for i, o in layers]
    if inputs is None:
        return made
    made += [('gw', i, o) for i, o in [(inputs, layers[0][1]), *layers[1:]] if i]
    return made + [('xg', i, o) for i, o in layers if train]


def terms(state: State, spec: Spec) -> dict[str, list[Product]]:
    """The products of one update by term."""
    params, a = state.params, spec.action_dim
    v, pi = products(params['critic']['v']), products(params['pi'])
    q = products(params['critic']['q']['q1'])
    time_mlp = products(params['mu']['time'])
    trunk = products({'first': params['mu']['first']}) + products(params['mu']['trunk'])
    return {
        'critic: Q(s, a)': 2 * passes(q, True, 0),
        'critic: V(s)': passes(v, True, 0),
        "critic: V(s')": passes(v, False, None),
        'mu: clone': passes(trunk, True, time_mlp[-1][1]) + passes(time_mlp, True, 0),
        'pi: policy': passes(pi, True, 0),
        'pi: trust region': passes(trunk, False, a) + passes(time_mlp, False, None),
        'pi: Q(s, a_pi)': 2 * passes(q, False, a),
    }


def operations(made: list[Product], batch_size: int) -> int:
    """Multiplications and additions of some products."""
    return sum(2 * batch_size * i * o for _, i, o in made)


def alone(made: list[Product], batch_size: int) -> Callable[[int], object]:
    """A program that makes these products `n` times and nothing else.

    Each product writes one of its numbers into its left factor, so that no repetition is the same.
    """
    rng = np.random.default_rng(0)

    def factors(kind: str, i: int, o: int) -> tuple[jax.Array, jax.Array]:
        x, g, w = (rng.normal(size=n).astype(np.float32) for n in
                   ((batch_size, i), (batch_size, o), (i, o)))  # fmt: skip
        return {'xw': (x, w), 'gw': (g, w), 'xg': (x, g)}[kind]

    def multiply(kind: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return {'xw': lambda: a @ b, 'gw': lambda: a @ b.T, 'xg': lambda: a.T @ b}[kind]()

    @jax.jit
    def run(arrays: dict[Product, tuple], n: int) -> dict[Product, tuple]:
        def body(_: jax.Array, arrays: dict[Product, tuple]) -> dict[Product, tuple]:
            for product in made:
                a, b = arrays[product]
                result = jax.lax.optimization_barrier(multiply(product[0], a, b))
                arrays = {**arrays, product: (a.at[0, 0].set(jnp.tanh(result[0, 0])), b)}
            return arrays

        return jax.lax.fori_loop(0, n, body, arrays)

    arrays = {product: factors(*product) for product in set(made)}
    return lambda n: jax.block_until_ready(run(arrays, n))


def traffic(state: State, spec: Spec, batch_size: int) -> int:
    """Bytes that one update reads and writes at least."""
    params, target = (
        sum(x.size for x in jax.tree.leaves(tree)) for tree in (state.params, state.target)
    )
    floats = 6 * params + 2 * target  # parameters and two moments, read and written, and the target
    return 4 * (floats + batch_size * (2 * spec.obs_dim + spec.action_dim + 2))


class Limits:
    """Times products of squares, in FLOP/s by side, and sums over memory, in bytes/s."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._squares = {n: jnp.asarray(rng.normal(size=(n, n)), jnp.float32) for n in SQUARES}
        self._product = jax.jit(jnp.matmul)
        self._x = jnp.ones(STREAM_FLOATS, jnp.float32)
        self._add = jax.jit(lambda x: x + 2.0, donate_argnums=0)  # in place: no page is new
        self.flops: dict[int, list[float]] = {n: [] for n in SQUARES}
        self.bandwidth: list[float] = []

    def block(self) -> None:
        """The best of a few products and of a few sums."""
        for n, x in self._squares.items():
            repeats = max(2, int(2e10 / (2 * n**3)) if n < 2048 else 2)
            self.flops[n].append(2 * n**3 / fastest(self._product, x, x, repeats=min(repeats, 50)))
        seconds = fastest(self._sum, repeats=3)
        self.bandwidth.append(2 * 4 * STREAM_FLOATS / seconds)  # read and written

    def _sum(self) -> jax.Array:
        self._x = self._add(self._x)
        return self._x


def fastest(function: Callable, *args: Any, repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one that may compile."""
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - began)
    return min(times)


def measured(size: str, seeds: int, blocks: int, block_s: float) -> dict[str, Any]:
    """The counts, the rates and the shares reached at one size."""
    dims, _, batch = size.rpartition('/')
    batch_size = int(batch)
    engine = Case('dtql', dims, batch_size, seeds).engine()
    agent = engine.agent
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    by_term = terms(state, agent.spec)
    made = [product for products in by_term.values() for product in products]
    training, limits = TrainingTimer(engine, block_s), Limits()
    its_products = Timer(alone(made, batch_size), block_s)
    measure.take_turns([training, limits, its_products], blocks)
    squares = {n: float(np.median(r)) for n, r in limits.flops.items()}
    bandwidth, best = float(np.median(limits.bandwidth)), max(squares.values())
    updates = training.rates()['train'] * seeds
    flops, transferred = operations(made, batch_size), traffic(state, agent.spec, batch_size)
    products = its_products.rate
    compiled = engine.compile(training.phases[-1]).cost_analysis() or {}
    return {
        'size': size,
        'seeds': seeds,
        'operations': {name: operations(term, batch_size) for name, term in by_term.items()},
        'gflop_per_update': flops / 1e9,
        'mb_per_update': transferred / 1e6,
        'compiled_gflop': compiled.get('flops', 0.0) / 1e9,
        'product_gflops': {n: r / 1e9 for n, r in squares.items()},
        'bandwidth_gb_s': bandwidth / 1e9,
        'limit_by_products': best / flops,
        'limit_by_memory': bandwidth / transferred,
        'seed_updates_per_s': updates,
        'products_alone_per_s': products,
        'products_alone_share': products * flops / best,
        'share_of_products_alone': updates / products,
        'share_of_product_rate': updates * flops / best,
    }


def main(asked: flags.FlagValues) -> None:
    report = Report(asked.out)
    for size in asked.sizes:
        report.add(measured(size, asked.seeds, asked.blocks, asked.block_seconds))


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
