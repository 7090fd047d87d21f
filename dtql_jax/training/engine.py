"""The device side of training: `jit(over lanes(loop over updates))`.

A lane is one training run: a seed, and hyper-parameters that may differ from its neighbours'. One
compiled program per phase advances all lanes of a run: one by one on a CPU, by `vmap` elsewhere.
Lanes are sharded over the devices and never communicate. The number of updates of a dispatch is an
argument of the program, so a new number compiles nothing, and how a phase is cut into dispatches
never changes a bit.

A GPU stops after each pass of a loop whose length is an argument: the host looks whether there is
another one. So there the loop's body is a block of updates, an inner loop of a length that the
compiler knows, and a run cuts phases at whole blocks. A second program makes the updates that fill
none, as in the search for a divergence. It may round otherwise.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dtql_jax.agents.base import Agent, State
from dtql_jax.nn.critics import apart, joined
from dtql_jax.training.blocks import block_size, unrolled
from dtql_jax.training.compilation import compile_for, own_numbers
from dtql_jax.training.lanes import (
    check_hparams,
    placed,
    run_by_vmap,
    run_one_by_one,
    usable_devices,
    where_lane,
    zeros_of,
)
from dtql_jax.training.packing import SMALL, Packing
from dtql_jax.training.update import Step, Update, trace_update
from dtql_jax.types import Lane, Metrics, Phase, Transition


def all_finite(tree: Any) -> jax.Array:
    """Whether every float of a lane's state is finite."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return functools.reduce(jnp.logical_and, (jnp.isfinite(x).all() for x in leaves))


class Engine:
    """Compiles phases and advances all lanes of `agent` on `data`.

    Args:
        agent: the algorithm.
        data: transitions `[N, ...]`, or their shapes: then the engine compiles, and cannot train.
        lanes: the training runs.
        devices: the devices to use, all local ones by default. The engine uses the largest number
            of them that divides the number of lanes.
        one_by_one: whether the lanes of a device advance one after the other instead of by `vmap`;
            by default they do on a CPU. A device with one lane never uses `vmap`.
        block: the updates of a block; by default 1 on a CPU, else `block_size`.

    Raises:
        UserError: a lane has a hyper-parameter that the agent lacks.
    """

    def __init__(
        self,
        agent: Agent,
        data: Transition,
        lanes: Sequence[Lane],
        devices: Sequence[jax.Device] | None = None,
        one_by_one: bool | None = None,
        block: int | None = None,
    ):
        check_hparams(agent, lanes)
        self.agent = agent
        self.lanes = tuple(lanes)
        available = list(devices or jax.local_devices())
        self.devices = available[: usable_devices(len(lanes), len(available))]
        self.mesh = jax.make_mesh(
            (len(self.devices),), ('lane',), (AxisType.Auto,), devices=self.devices
        )
        self._by_lane = NamedSharding(self.mesh, PartitionSpec('lane'))
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.data = placed(data, self._everywhere)
        self.on_cpu = self.devices[0].platform == 'cpu'
        # A single lane must not become a batch of one on any device.
        alone = len(self.lanes) == len(self.devices)
        self.one_by_one = alone or (self.on_cpu if one_by_one is None else one_by_one)
        if block is None:
            block = 1 if self.on_cpu else block_size(agent.all_phases(), agent.config.eval_every)
        self.block = block
        self._programs: dict[tuple[str, int], jax.stages.Compiled] = {}
        self._updates: dict[str, Update] = {}
        # The phases' programs accept only inputs that are sharded by lane.
        jit = functools.partial(jax.jit, out_shardings=self._by_lane)
        self._copy: Callable[[Any], Any] = jit(lambda tree: jax.tree.map(jnp.copy, tree))
        self._zeros = jit(functools.partial(zeros_of, self._updates, len(lanes)), static_argnums=0)
        self._where = jit(where_lane, donate_argnums=1)

    # Arrays.

    @own_numbers()
    def init(self) -> State:
        """Fresh states of all lanes, stacked `[S, ...]`. A lane's depends on its seed alone."""
        seeds = np.array([lane.seed for lane in self.lanes], np.uint32)
        values = {
            name: np.array([lane.hparams.get(name, value) for lane in self.lanes], np.float32)
            for name, value in self.agent.config.floats().items()
        }
        return self._init(seeds, values)

    @functools.cached_property
    def _init(self) -> Callable[..., State]:
        """`init` of seeds and hyper-parameters; its shapes and its program share a trace."""

        def init(seed: jax.Array, hparams: dict[str, jax.Array]) -> State:
            return self.agent.init(jax.random.key(seed)).replace(hparams=hparams)

        return jax.jit(jax.vmap(init), out_shardings=self._by_lane)

    def zeros(self, phase: Phase) -> Metrics:
        """Sums `[S]` of the phase's metrics over no updates."""
        self.update(phase)  # traces it outside of `_zeros`
        return self._zeros(phase.name)

    def shard(self, tree: Any) -> Any:
        """Spreads a tree whose leaves have the lane axis `[S, ...]` over the devices."""
        return jax.device_put(tree, self._by_lane)

    def with_sharding(self, shapes: Any) -> Any:
        """Shapes and dtypes, as `jax.eval_shape` returns them, with the sharding of `shard`."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._by_lane), shapes
        )

    @functools.cached_property
    def shapes(self) -> State:
        """Shapes and dtypes of `init`; tracing an agent takes a second or so."""
        return self.with_sharding(jax.eval_shape(self.init))

    @functools.cached_property
    def lane_shapes(self) -> State:
        """Shapes and dtypes of the state of one lane."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.shapes)

    def update(self, phase: Phase) -> Update:
        """The phase's update of one lane, traced at the first call."""
        if phase.name not in self._updates:
            given = self.agent, phase, self.lane_shapes, self.data, not self.on_cpu
            self._updates[phase.name] = trace_update(*given)
        return self._updates[phase.name]

    def metrics(self, phase: Phase) -> Metrics:
        """Shapes and dtypes `[S]` of the phase's metrics."""

        def of_all(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((len(self.lanes), *x.shape), x.dtype)

        return self.with_sharding(jax.tree.map(of_all, self.update(phase).metrics))

    # Programs.

    @own_numbers()
    def lower(self, phase: Phase, block: int) -> jax.stages.Lowered:
        """The phase's program of blocks of a size, before it is compiled."""
        updates = functools.partial(self._run, self.update(phase).step, block)
        run = jax.shard_map(
            run_one_by_one(updates) if self.one_by_one else run_by_vmap(updates),
            mesh=self.mesh,
            in_specs=(*[PartitionSpec('lane')] * 2, *[PartitionSpec()] * 2),
            out_specs=PartitionSpec('lane'),
            # There is no communication to check, and the check refuses a branch of `cond` or a
            # carry of `scan` that is the same for all lanes.
            check_vma=False,
        )
        n = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._everywhere)
        return jax.jit(run, donate_argnums=(0, 1)).lower(
            self.shapes, self.metrics(phase), self.data, n
        )

    def compile(self, phase: Phase, block: int | None = None) -> jax.stages.Compiled:
        """The phase's program of blocks, of the engine's size or another, compiled once."""
        key = (phase.name, block or self.block)
        if key not in self._programs:
            given = self.devices[0], self.lower(phase, key[1]), self.agent.config.deterministic
            self._programs[key] = compile_for(*given)
        return self._programs[key]

    def _run(
        self, step: Step, block: int, state: State, sums: Metrics, data: Transition, n: jax.Array
    ) -> tuple[State, Metrics, jax.Array]:
        """`n` blocks of updates of a lane, the sums of their metrics, and whether it is finite."""
        # With many lanes by `vmap` a kernel has enough to do.
        most = SMALL if self.block > 1 and self.one_by_one else 0
        state = state if self.on_cpu else joined(state)
        packing = Packing((state, sums), most)

        def update(_: jax.Array, carry: Any) -> Any:
            state, sums = packing.unpack(carry)
            state, metrics = step(state, data)
            return packing.pack((state, jax.tree.map(jnp.add, sums, metrics)))

        def updates(_: jax.Array, carry: Any) -> Any:
            return jax.lax.fori_loop(0, block, update, carry, unroll=unrolled(block))

        carry = packing.pack((state, sums))
        carry = jax.lax.fori_loop(0, n, update if block == 1 else updates, carry)
        state, sums = packing.unpack(carry)
        return apart(state), sums, all_finite(Packing(state, most).pack(state))

    # Training.

    @own_numbers()
    def enter(self, phase: Phase, state: State, alive: np.ndarray) -> State:
        """Applies `phase.enter` to the states of the lanes that are `alive` `[S]`."""
        if phase.enter is None:
            return state
        enter = jax.jit(jax.vmap(phase.enter), out_shardings=self._by_lane)
        # A copy, since an entry that `enter` passes through must not be donated twice.
        return self._choose(alive, self._copy(enter(state)), state)

    @own_numbers()
    def dispatch(
        self, phase: Phase, state: State, sums: Metrics, n: int
    ) -> tuple[State, Metrics, jax.Array]:
        """`n` updates of all lanes, and whether each lane's state is finite then `[S]`.

        `state` and `sums` are donated.
        """
        blocks, rest = divmod(n, self.block)
        parts = [(self.block, blocks)] * (blocks > 0) + [(1, rest)] * (rest > 0 or not n)
        for block, times in parts:
            program, count = self.compile(phase, block), np.int32(times)
            with jax.transfer_guard('disallow'):
                count = jax.device_put(count, self._everywhere)
                state, sums, finite = program(state, sums, self.data, count)
        return state, sums, finite

    def whole(self, n: int, most: int) -> int:
        """The size of a dispatch near `n`, at most `most`: whole blocks where these have room."""
        n = min(max(n, self.block), most)
        return n - n % self.block or n

    def advance(
        self, phase: Phase, state: State, sums: Metrics, n: int, alive: np.ndarray, slices: int = 0
    ) -> tuple[State, Metrics, np.ndarray]:
        """`n` updates of all lanes that are `alive` `[S]`; the others keep their state and sums.

        A lane that diverges stops at its last finite state. A bisection with the same compiled
        program finds that state, so a run that does not diverge pays only for a look at the floats
        of its state after each call. The other lanes' bits do not change. With `slices` the device
        is free for other work after each so many updates.

        Returns:
            The states, the sums, and how many updates each lane made `[S]`: fewer than `n` where it
            diverged, 0 where it is not `alive`.
        """
        before: tuple[State, Metrics] = self._copy((state, sums))
        size = self.whole(slices or n, n)
        for begin in range(0, n, size):
            state, sums, flags = self.dispatch(phase, state, sums, min(size, n - begin))
            finite = jax.device_get(flags)  # waits
        done = np.where(alive, n, 0)
        if finite[alive].all():
            if not alive.all():
                state, sums = self._choose(alive, (state, sums), before)
            return state, sums, done
        diverged = alive & ~finite
        for lane in np.flatnonzero(diverged):
            done[lane] = self._last_finite(phase, before, n, int(lane))
        stopped = before
        for m in set(done[diverged].tolist()):
            *at_m, _ = self._repeat(phase, before, m)
            stopped = self._choose(diverged & (done == m), tuple(at_m), stopped)
        state, sums = self._choose(alive & finite, (state, sums), stopped)
        return state, sums, done

    def _choose(self, lanes: np.ndarray, tree: Any, other: Any) -> Any:
        """`tree` (donated) in the lanes where the mask `lanes` `[S]` holds, `other` elsewhere."""
        return self._where(jax.device_put(lanes, self._by_lane), tree, other)

    def _last_finite(self, phase: Phase, before: tuple[State, Metrics], n: int, lane: int) -> int:
        """The largest number of updates below `n` after which the lane is finite.

        A lane that is not finite stays so: parameters and Adam's moments keep a NaN or an infinity.
        """
        low, high = 0, n  # finite after `low` updates, not finite after `high`
        while high - low > 1:
            middle = (low + high) // 2
            *_, flags = self._repeat(phase, before, middle)
            low, high = (middle, high) if jax.device_get(flags)[lane] else (low, middle)
        return low

    def _repeat(
        self, phase: Phase, before: tuple[State, Metrics], n: int
    ) -> tuple[State, Metrics, jax.Array]:
        """`dispatch` from a copy of `before`."""
        state, sums = self._copy(before)
        return self.dispatch(phase, state, sums, n)
