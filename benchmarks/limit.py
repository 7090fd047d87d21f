"""The limit: what DTQL's update costs at least, what this machine can do, and the share reached.

  python benchmarks/limit.py [--out=FILE]

Operations of the matrix products are counted term by term from the networks themselves: a product
counts where a loss needs it, so no gradient of a network that a loss does not train, and none of an
input that nothing asks for. Bytes are those of the parameters, Adam's moments and the target, each
read and written once, and of the batch; activations may stay in a cache. The rates of matrix
products and of memory are measured in turns with the training, and the best of them is the limit.
So is a program of the update's own products and nothing else: what lies between it and the best
rate is the shape of the products, what lies between it and the training is everything else.
"""

import functools
import json
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from measure import ANTMAZE, PEN, WALKER, TrainingTimer, machine, synthetic

from dtql_jax.agents.base import State
from dtql_jax.agents.dtql import DTQL, Config
from dtql_jax.types import Lane, Params, Spec

_SIZES = flags.DEFINE_list(
    'sizes', [f'{WALKER}/256', f'{ANTMAZE}/2048', f'{PEN}/256'], 'observation/action/batch'
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'seeds trained at once')
_BLOCKS = flags.DEFINE_integer('blocks', 7, 'timed blocks')
_BLOCK_SECONDS = flags.DEFINE_float('block_seconds', 3.0, 'seconds per block')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write')

SQUARES = (256, 512, 1024, 2048, 4096)
STREAM_FLOATS = 64 * 2**20  # far beyond any cache


def products(params: Params) -> list[tuple[int, int]]:
    """Inputs and outputs of every linear layer, in order of use."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [leaf.shape for path, leaf in leaves if path[-1].key == 'kernel']


# Products of a batch: its kind ('xw' forward, 'gw' gradient of activations, 'xg' of weights), and
# the inputs and outputs of the layer.
Product = tuple[str, int, int]


def passes(layers: list[tuple[int, int]], train: bool, inputs: int | None) -> list[Product]:
    """Products of a pass: forward, gradients of weights with `train`, gradients of activations.

    `inputs` of the first layer's own inputs need a gradient; None where nothing is differentiated.
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


def alone(made: list[Product], batch_size: int) -> Callable[[int], jax.Array]:
    """A program that makes these products `n` times, and does nothing else.

    Each writes one of its numbers into its own left factor, in place, so that none is the same as
    one before.
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

    return functools.partial(run, {product: factors(*product) for product in set(made)})


def traffic(state: State, spec: Spec, batch_size: int) -> int:
    """Bytes of one update: see the head of this file."""
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    # Parameters and two moments are read and written; so is the target; the batch is read.
    floats = 6 * count(state.params) + 2 * count(state.target)
    return 4 * (floats + batch_size * (2 * spec.obs_dim + spec.action_dim + 2))


class Rates:
    """The machine's rates, a block at a time: FLOP/s by side of the square, bytes/s.

    `products` are the updates/s of `alone`.
    """

    def __init__(self, made: list[Product], batch_size: int, block_s: float) -> None:
        rng = np.random.default_rng(0)
        self.squares = {n: jnp.asarray(rng.normal(size=(n, n)), jnp.float32) for n in SQUARES}
        self.product = jax.jit(jnp.matmul)
        self.x = jnp.ones(STREAM_FLOATS, jnp.float32)
        self.add = jax.jit(lambda x: x + 2.0, donate_argnums=0)  # in place: no page is new
        self.alone, self.updates = alone(made, batch_size), 2
        self.flops: dict[int, list[float]] = {n: [] for n in SQUARES}
        self.bandwidth: list[float] = []
        self.products: list[float] = []
        for _ in range(2):
            self.block()
        self.updates = max(1, round(self.products[-1] * block_s))
        for rates in [*self.flops.values(), self.bandwidth, self.products]:
            rates.clear()

    def block(self) -> None:
        """The best of a few products and of a few sums; some updates' products."""
        for n, x in self.squares.items():
            repeats = max(2, int(2e10 / (2 * n**3)) if n < 2048 else 2)
            self.flops[n].append(2 * n**3 / fastest(self.product, x, x, repeats=min(repeats, 50)))
        seconds = fastest(self._add, repeats=3)
        self.bandwidth.append(2 * 4 * STREAM_FLOATS / seconds)  # read and written
        self.products.append(self.updates / fastest(self.alone, self.updates, repeats=1))

    def _add(self) -> jax.Array:
        self.x = self.add(self.x)
        return self.x


def fastest(function, *args, repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - began)
    return min(times)


def measure(size: str) -> dict:
    """The count, the rates and the share reached at one size."""
    obs_dim, action_dim, batch_size = (int(n) for n in size.split('/'))
    spec = Spec(obs_dim, action_dim)
    agent = DTQL(spec, Config(batch_size=batch_size))
    state = jax.eval_shape(agent.init, jax.eval_shape(lambda: jax.random.key(0)))
    by_term = terms(state, spec)
    made = [product for products in by_term.values() for product in products]
    data = synthetic(f'{obs_dim}/{action_dim}')
    lanes = [Lane('dtql', seed) for seed in range(_SEEDS.value)]
    training = TrainingTimer(agent, data, lanes, _BLOCK_SECONDS.value)
    rates = Rates(made, batch_size, _BLOCK_SECONDS.value)
    for _ in range(_BLOCKS.value):
        training.block()
        rates.block()
    squares = {n: float(np.median(r)) for n, r in rates.flops.items()}
    bandwidth, best = float(np.median(rates.bandwidth)), max(squares.values())
    updates = training.medians()['train'] * _SEEDS.value
    flops, transferred = operations(made, batch_size), traffic(state, spec, batch_size)
    products = float(np.median(rates.products))
    compiled = training.engine.compile(training.phases[-1]).cost_analysis() or {}
    return {
        'size': size,
        'seeds': _SEEDS.value,
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


def text(row: dict) -> str:
    """A row as text."""
    squares = ', '.join(f'{n}: {r:.0f}' for n, r in row['product_gflops'].items())
    terms = '\n'.join(f'  {name:20}{n / 1e9:8.3f} GFLOP' for name, n in row['operations'].items())
    return (
        f'obs/action/batch {row["size"]}, {row["seeds"]} seeds\n{terms}\n'
        f'  {"together":20}{row["gflop_per_update"]:8.3f} GFLOP, {row["mb_per_update"]:.1f} MB\n'
        f'  matrix products, GFLOP/s by side: {squares}; memory {row["bandwidth_gb_s"]:.1f} GB/s\n'
        f'  limits: {row["limit_by_products"]:.1f} updates/s by products, '
        f'{row["limit_by_memory"]:.1f} by memory\n'
        f'  reached: {row["seed_updates_per_s"]:.1f} seed-updates/s, '
        f'{100 * row["share_of_product_rate"]:.0f} % of the product rate\n'
        f"  the update's products alone: {row['products_alone_per_s']:.1f}/s, "
        f'{100 * row["products_alone_share"]:.0f} % of the product rate; '
        f'training takes {1 / row["share_of_products_alone"]:.2f} times as long\n'
    )


def main(_: list[str]) -> None:
    report = {**machine(), 'results': []}
    for size in _SIZES.value:
        report['results'].append(measure(size))
        print(text(report['results'][-1]), flush=True)
        if _OUT.value:
            pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
