"""The device side of training: `jit(over lanes(loop over updates))`.

A lane is one training run: a seed, and hyper-parameters that may differ from its neighbours'. All
lanes of a run advance in one compiled program per phase, by `vmap` or, on a CPU, in turn; they are
sharded over the devices with no communication between them. The number of updates of a dispatch is
an argument of the program, so that nothing recompiles when it changes; how a phase is cut into
dispatches never changes a bit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dtql_jax.agents.base import Agent, State
from dtql_jax.types import Lane, Metrics, Phase, Transition, UserError

# XLA's CPU backend hands many products to a library, YNNPACK, which is slower at these sizes than
# its own kernels: an update of DTQL takes 4 to 11 % longer at batch 256 and 8 % at 2048.
COMPILER_OPTIONS = {'cpu': {'xla_cpu_experimental_ynn_fusion_type': ''}}

# Batch indices have keys of their own. No step reaches this tag, so no key is used twice.
INDEX_TAG = 0xFFFFFFFF


def sample(state: State, data: Transition, batch_size: int) -> Transition:
    """A batch drawn with replacement, uniformly over the whole dataset, from the step's key."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, INDEX_TAG), state.step)
    index = jax.random.randint(key, (batch_size,), 0, data.reward.shape[0])
    return jax.tree.map(lambda x: x[index], data)


def all_finite(tree: State) -> jax.Array:
    """Whether every float of a lane's state is finite."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return functools.reduce(jnp.logical_and, (jnp.isfinite(x).all() for x in leaves))


class Engine:
    """Compiles phases and advances all lanes of `agent` on `data`.

    Args:
        agent: the algorithm.
        data: transitions `[N, ...]`.
        lanes: the training runs.
        devices: those to use; all local ones without. Their number must divide that of the lanes,
            else fewer are used.
        one_by_one: whether the lanes of a device advance in turn, and not by `vmap`. Without, they
            do on a CPU.

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
    ):
        for lane in lanes:
            check_hparams(agent, lane)
        self.agent = agent
        self.lanes = tuple(lanes)
        available = list(devices or jax.local_devices())
        self.devices = available[: usable_devices(len(lanes), len(available))]
        mesh = jax.make_mesh(
            (len(self.devices),), ('lane',), (AxisType.Auto,), devices=self.devices
        )
        self._by_lane = NamedSharding(mesh, PartitionSpec('lane'))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._mesh = mesh
        self.data = jax.device_put(data, self._everywhere)
        on_cpu = self.devices[0].platform == 'cpu'
        # A single lane must not become a batch of one on any device.
        alone = len(self.lanes) == len(self.devices)
        self._in_turn = alone or (on_cpu if one_by_one is None else one_by_one)
        self._programs: dict[str, jax.stages.Compiled] = {}
        self._metrics: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
        # The phases' programs accept only inputs that are sharded by lane.
        jit = functools.partial(jax.jit, out_shardings=self._by_lane)
        self._copy = jit(lambda tree: jax.tree.map(jnp.copy, tree))
        self.zeros_like = jit(lambda tree: jax.tree.map(jnp.zeros_like, tree))
        self._where = jit(_where_lane, donate_argnums=1)

    def init(self) -> State:
        """Fresh states of all lanes, stacked `[S, ...]`. A lane's depends on its seed alone."""
        seeds = np.array([lane.seed for lane in self.lanes], np.uint32)
        values = {
            name: np.array([lane.hparams.get(name, value) for lane in self.lanes], np.float32)
            for name, value in self.agent.config.floats().items()
        }

        def init(seed: jax.Array, hparams: dict[str, jax.Array]) -> State:
            return self.agent.init(jax.random.key(seed)).replace(hparams=hparams)

        return jax.jit(jax.vmap(init), out_shardings=self._by_lane)(seeds, values)

    def place(self, tree: Any) -> Any:
        """Lays a tree whose leaves have the lane axis `[S, ...]` over the devices."""
        return jax.device_put(tree, self._by_lane)

    def placed(self, shapes: Any) -> Any:
        """Shapes and dtypes, as `jax.eval_shape` gives them, with the sharding of `place`."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._by_lane), shapes
        )

    @functools.cached_property
    def _state(self) -> State:
        """Shapes and dtypes of `init`; tracing an agent takes a second or so."""
        return self.placed(jax.eval_shape(self.init))

    def metrics(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes `[S]` of the phase's metrics."""

        def update(state: State) -> Metrics:
            return phase.update(state, sample(state, self.data, phase.batch_size))[1]

        if phase.name not in self._metrics:
            self._metrics[phase.name] = self.placed(jax.eval_shape(jax.vmap(update), self._state))
        return self._metrics[phase.name]

    def compile(self, phase: Phase) -> jax.stages.Compiled:
        """The phase's program, compiled at the first call."""
        if phase.name not in self._programs:
            run = functools.partial(self._run, phase)
            run = jax.shard_map(
                _one_by_one(run) if self._in_turn else jax.vmap(run, in_axes=(0, 0, None, None)),
                mesh=self._mesh,
                in_specs=(*[PartitionSpec('lane')] * 2, *[PartitionSpec()] * 2),
                out_specs=PartitionSpec('lane'),
                # There is no communication to check, and the check refuses a branch of `cond` or
                # `scan` that is the same for all lanes.
                check_vma=False,
            )
            n = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._everywhere)
            lowered = jax.jit(run, donate_argnums=(0, 1)).lower(
                self._state, self.metrics(phase), self.data, n
            )
            self._programs[phase.name] = self._compile(lowered)
        return self._programs[phase.name]

    def _compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """Compiles with the options of the platform, or without where this jaxlib lacks one."""
        try:
            return lowered.compile(COMPILER_OPTIONS.get(self.devices[0].platform))
        except jax.errors.JaxRuntimeError as error:
            if 'compile option' not in str(error):
                raise
            return lowered.compile()

    def _run(
        self, phase: Phase, state: State, sums: Metrics, data: Transition, n: jax.Array
    ) -> tuple[State, Metrics, jax.Array]:
        """`n` updates of one lane, the sums of their metrics, and whether the state is finite."""
        step = self.agent.precise(phase.update)

        def update(_: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, sums = carry
            state, metrics = step(state, sample(state, data, phase.batch_size))
            return state, jax.tree.map(jnp.add, sums, metrics)

        state, sums = jax.lax.fori_loop(0, n, update, (state, sums))
        return state, sums, all_finite(state)

    def enter(self, phase: Phase, state: State, alive: np.ndarray) -> State:
        """What the phase does to the state of each lane that is `alive` `[S]` before it begins."""
        if phase.enter is None:
            return state
        enter = jax.jit(jax.vmap(phase.enter), out_shardings=self._by_lane)
        # A copy, since an entry that `enter` passes through must not be donated twice.
        return self._choose(alive, self._copy(enter(state)), state)

    def dispatch(
        self, phase: Phase, state: State, sums: Metrics, n: int
    ) -> tuple[State, Metrics, jax.Array]:
        """`n` updates of all lanes, donating `state` and `sums`; then whether each is finite."""
        program = self.compile(phase)
        with jax.transfer_guard('disallow'):
            return program(state, sums, self.data, jax.device_put(np.int32(n), self._everywhere))

    def advance(
        self, phase: Phase, state: State, sums: Metrics, n: int, alive: np.ndarray
    ) -> tuple[State, Metrics, np.ndarray]:
        """`n` updates of all lanes that are `alive` `[S]`; the others keep their state and sums.

        Also returns how many updates each lane made `[S]`. A lane that makes fewer has diverged:
        it stops at its last finite state, found by bisection with the same compiled program, so
        that watching costs nothing while all goes well. Other lanes are not touched by this.
        """
        before = self._copy((state, sums))
        *after, finite = self.dispatch(phase, state, sums, n)
        finite = jax.device_get(finite)
        done = np.where(alive, n, 0)
        if finite[alive].all():
            return *(after if alive.all() else self._choose(alive, tuple(after), before)), done
        diverged = alive & ~finite
        for lane in np.flatnonzero(diverged):
            done[lane] = self._last_finite(phase, before, n, lane)
        stopped = before
        for m in set(done[diverged]):
            *at_m, _ = self.dispatch(phase, *self._copy(before), m)
            stopped = self._choose(diverged & (done == m), tuple(at_m), stopped)
        return *self._choose(alive & finite, tuple(after), stopped), done

    def _choose(self, lanes: np.ndarray, tree: tuple, other: tuple) -> tuple:
        """`tree` (donated) in the lanes that the mask `lanes` `[S]` names, `other` elsewhere."""
        return self._where(jax.device_put(lanes, self._by_lane), tree, other)

    def _last_finite(self, phase: Phase, before: tuple, n: int, lane: int) -> int:
        """The largest number of updates below `n` after which the lane is finite.

        What is not finite stays so: Adam's moments and the parameters keep a NaN or an infinity.
        """
        low, high = 0, n  # finite after `low` updates, not finite after `high`
        while high - low > 1:
            middle = (low + high) // 2
            finite = jax.device_get(self.dispatch(phase, *self._copy(before), middle)[2])
            low, high = (middle, high) if finite[lane] else (low, middle)
        return low


def _one_by_one(run: Callable[..., tuple]) -> Callable[..., tuple]:
    """`run` over the lanes of a device as `vmap` does, but one lane after the other.

    Batched products are slower than plain ones on a CPU, whose cores one lane fills: four seeds of
    DTQL make 46 updates/s together by `vmap` where one makes 51, and as many as one in turn.
    """

    def one_by_one(state: State, sums: Metrics, data: Transition, n: jax.Array) -> tuple:
        return jax.lax.map(lambda lane: run(*lane, data, n), (state, sums))

    return one_by_one


def _where_lane(choose: jax.Array, tree: tuple, other: tuple) -> tuple:
    """`tree` in the lanes that `choose` `[S]` names, `other` elsewhere."""

    def select(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(choose.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(select, tree, other)


def blank_engine(agent: Agent, lanes: Sequence[Lane]) -> Engine:
    """An engine without data, to lay out the arrays of a checkpoint; on the first device."""
    spec = agent.spec
    shapes = [(1, spec.obs_dim), (1, spec.action_dim), (1,), (1,), (1, spec.obs_dim)]
    blank = Transition(*[np.zeros(shape, np.float32) for shape in shapes])
    return Engine(agent, blank, lanes, devices=jax.local_devices()[:1])


def usable_devices(num_lanes: int, num_devices: int) -> int:
    """The largest number of devices, at most `num_devices`, that divides `num_lanes`."""
    return max(d for d in range(1, num_devices + 1) if num_lanes % d == 0)


def check_hparams(agent: Agent, lane: Lane) -> None:
    """Raises UserError where a lane's own hyper-parameters are not the agent's."""
    unknown = sorted(set(lane.hparams) - set(agent.config.floats()))
    if unknown:
        known = ', '.join(agent.config.floats())
        raise UserError(f'lane {lane.variant!r}: no hyper-parameter {unknown[0]!r}; known: {known}')
