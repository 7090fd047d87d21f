"""A policy's actions for many states at once, the same whatever acts beside them."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.types import Params

# The root of all action keys of evaluations, apart from every key of training.
EVAL_TAG = 0x6576616C

# States per block of `Actor` on an accelerator. A block gathers a copy of the weights per state:
# some 2.5 MB each, used for all 1024 candidates, so the copies cost little beside the products.
ACCELERATOR_BLOCK = 32


class Actor:
    """`agent_act(params of one lane, obs [O], key) -> action [A]`, jitted for many states at once.

    Compiled once for all evaluations with up to `num_slots` states. The states
    are worked through in blocks by a loop with a traced bound, so that absent states cost nothing
    and a block has the same shapes whatever `num_slots` is, which is what makes results equal
    to the bit (on a GPU as far as its kernels are deterministic). On a CPU a block is one state:
    acting on one (1024 candidates) already fills the cores. An accelerator takes
    `ACCELERATOR_BLOCK` at a time by `vmap`.
    Everything runs on the first local device.
    """

    def __init__(
        self, agent_act: Callable[[Params, jax.Array, jax.Array], jax.Array], num_slots: int
    ):
        self.num_slots = num_slots
        self._agent_act = agent_act
        self._device = jax.local_devices()[0]
        self._block = 1 if self._device.platform == 'cpu' else ACCELERATOR_BLOCK
        self._padded = -(-num_slots // self._block) * self._block
        self._jitted = jax.jit(self._act_on_blocks)

    def place(self, params: Params) -> Params:
        """Lays the parameters `[S, ...]`, sharded over devices or not, where this actor runs."""
        return jax.device_put(params, self._device)

    def __call__(
        self,
        params: Params,
        lane: Sequence[int],
        seed: Sequence[int],
        episode: Sequence[int],
        step: Sequence[int],
        obs: np.ndarray,
    ) -> np.ndarray:
        """Acts for `n <= num_slots` states, `obs` `[n, O]`; returns `[n, A]`.

        `params` have been through `place`. The key of a state is
        `fold_in(fold_in(fold_in(key(EVAL_TAG), seed), episode), step)`.
        """
        count = len(obs)
        if count > self.num_slots:
            raise ValueError(f'{count} states for {self.num_slots} slots')
        indices = np.zeros([4, self._padded], np.uint32)
        indices[:, :count] = [lane, seed, episode, step]
        padded = np.zeros([self._padded, obs.shape[1]], np.float32)
        padded[:count] = obs
        args = jax.device_put((indices, padded, np.int32(count)), self._device)
        # A copy, since what device_get gives may be read-only and simulators may write to it.
        return np.array(jax.device_get(self._jitted(params, *args))[:count])

    def _act_on_blocks(
        self, params: Params, indices: jax.Array, obs: jax.Array, count: jax.Array
    ) -> jax.Array:
        take = partial(jax.lax.dynamic_index_in_dim, keepdims=False)

        def act(index: jax.Array, obs: jax.Array) -> jax.Array:
            key = jax.random.key(EVAL_TAG)
            for part in index[1:]:
                key = jax.random.fold_in(key, part)
            return self._agent_act(jax.tree.map(lambda x: take(x, index[0]), params), obs, key)

        def act_on_block(i: jax.Array, actions: jax.Array) -> jax.Array:
            begin = i * self._block
            block = [jax.lax.dynamic_slice_in_dim(x, begin, self._block) for x in (indices.T, obs)]
            return jax.lax.dynamic_update_slice_in_dim(
                actions, jax.vmap(act)(*block), begin, axis=0
            )

        shape = jax.eval_shape(jax.vmap(act), indices.T, obs)
        blocks = (count + self._block - 1) // self._block
        return jax.lax.fori_loop(0, blocks, act_on_block, jnp.zeros(shape.shape, shape.dtype))
