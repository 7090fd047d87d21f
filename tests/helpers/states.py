"""Initial states whose weights NumPy draws: the agents' own `init` takes seconds to compile."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers.golden_weights import blank


def drawn(agent, seed=0):
    """A state like `agent.init`'s, for tests that its laws do not concern."""
    rng, state = np.random.default_rng(seed), blank(agent)

    def draw(path, x):
        kind = path[-1].key
        if kind == 'scale':
            return jnp.ones_like(x)
        size = x.shape[-2] ** -0.5 if kind == 'kernel' else {'frequency': 3.0}.get(kind, 0.1)
        return jnp.float32(size * rng.normal(size=x.shape))

    params = jax.tree_util.tree_map_with_path(draw, state.params)
    target = {name: jax.tree.map(jnp.copy, params[name]) for name in agent.targets}
    return state.replace(params=params, target=target)
