"""Acts for many states at once. An action does not depend on the states beside it."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.training.compilation import own_numbers, repeating
from dtql_jax.types import Params

# The root of all action keys of evaluations. No key of training derives from it.
EVAL_TAG = 0x6576616C

# States per block of `Actor` on an accelerator, at most. With several lanes a block gathers a copy
# of the weights for each state, about 2.5 MB. A copy serves all 1024 candidates, so it costs little
# beside the products.
ACCELERATOR_BLOCK = 32

Indices = Sequence[int] | np.ndarray


class Actor:
    """Applies `agent_act(params of one lane, obs [O], key) -> action [A]` to many states at once.

    It compiles once for all calls with up to `num_slots` states, and runs on the first local
    device. A loop with a traced bound works through the states in blocks: absent states cost
    nothing. On a CPU a block is one state, whose 1024 candidates already fill the cores, so an
    action has the same bits whatever `num_slots` is. An accelerator takes `ACCELERATOR_BLOCK`
    states at a time, or `num_slots` if these are fewer.

    Args:
        agent_act: the policy of one lane for one state.
        num_slots: the most states of one call.
        deterministic: see `repeating`.
    """

    def __init__(
        self,
        agent_act: Callable[[Params, jax.Array, jax.Array], jax.Array],
        num_slots: int,
        deterministic: bool = False,
    ):
        self.num_slots = num_slots
        self._agent_act = agent_act
        self._device = jax.local_devices()[0]
        cpu = self._device.platform == 'cpu'
        self._block = 1 if cpu else min(ACCELERATOR_BLOCK, num_slots)
        self._padded = -(-num_slots // self._block) * self._block
        options = repeating(self._device, deterministic)
        self._jitted = jax.jit(self._act_on_blocks, compiler_options=options)

    def to_device(self, params: Params) -> Params:
        """Copies the parameters `[S, ...]`, sharded over devices or not, to the actor's device."""
        return jax.device_put(params, self._device)

    @own_numbers()
    def __call__(
        self,
        params: Params,
        lane: Indices,
        seed: Indices,
        episode: Indices,
        step: Indices,
        obs: np.ndarray,
    ) -> np.ndarray:
        """Acts with the key `fold_in(fold_in(fold_in(key(EVAL_TAG), seed), episode), step)`.

        Args:
            params: the parameters of all lanes `[S, ...]`, from `to_device`.
            lane: the index of each state's parameters, `[n]`.
            seed: the training seed of each state's lane, `[n]`.
            episode: the number of each state's episode, `[n]`.
            step: the step of each state in its episode, `[n]`.
            obs: the states, `[n, O]`, with `n <= num_slots`.

        Returns:
            The actions, `[n, A]`.

        Raises:
            ValueError: there are more states than slots.
        """
        count = len(obs)
        if count > self.num_slots:
            raise ValueError(f'{count} states for {self.num_slots} slots')
        indices = np.zeros([4, self._padded], np.uint32)
        indices[:, :count] = [lane, seed, episode, step]
        padded = np.zeros([self._padded, obs.shape[1]], np.float32)
        padded[:count] = obs
        args = jax.device_put((indices, padded, np.int32(count)), self._device)
        # `device_get` may return a read-only array, and simulators may write to their action.
        return np.array(jax.device_get(self._jitted(params, *args))[:count])

    def _act_on_blocks(
        self, params: Params, indices: jax.Array, obs: jax.Array, count: jax.Array
    ) -> jax.Array:
        """The actions `[padded slots, A]` of the first `count` states, and zeros after them."""
        take = partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        # The weights of a single lane serve the whole block: no copies are gathered.
        one_lane = self._block > 1 and all(x.shape[0] == 1 for x in jax.tree.leaves(params))

        def act(index: jax.Array, obs: jax.Array) -> jax.Array:
            key = jax.random.key(EVAL_TAG)
            for part in index[1:]:
                key = jax.random.fold_in(key, part)
            lane = 0 if one_lane else index[0]
            return self._agent_act(jax.tree.map(lambda x: take(x, lane), params), obs, key)

        def act_on_block(i: jax.Array, actions: jax.Array) -> jax.Array:
            begin = i * self._block
            block = [jax.lax.dynamic_slice_in_dim(x, begin, self._block) for x in (indices.T, obs)]
            return jax.lax.dynamic_update_slice_in_dim(
                actions, jax.vmap(act)(*block), begin, axis=0
            )

        shape = jax.eval_shape(jax.vmap(act), indices.T, obs)
        blocks = (count + self._block - 1) // self._block
        return jax.lax.fori_loop(0, blocks, act_on_block, jnp.zeros(shape.shape, shape.dtype))
