"""The part of a run in the environment: a step in it, then an update, as in FQL's released code.

One program makes the update of all lanes and their next actions, so that there is one dispatch for
each step of the environments. An agent goes on with the update of its last phase. Nothing of its
optimisers or targets is reset.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from dtql_jax.agents.base import State
from dtql_jax.training import buffer as buffers
from dtql_jax.training.compilation import compile_for, own_numbers
from dtql_jax.training.engine import Engine, all_finite
from dtql_jax.training.progress import Cursor, OnlineProgress
from dtql_jax.types import Metrics, Phase, Stopped, Transition, UserError

# Actions are drawn with keys of their own. No step reaches this tag.
EXPLORE_TAG = 0xFFFFFFFE


class Told(NamedTuple):
    """What the environments of all lanes tell, `[S, ...]`, in the units of the agent.

    Attributes:
        made: whether the lane made a step. Without one it only acts.
        reward: of that step.
        mask: 0 where the return ended.
        next_obs: the observation after that step.
        joined: for each further column, whether the action of that step follows the row before.
        obs: what the lane acts on now: `next_obs`, or the start of a new episode.
    """

    made: Any
    reward: Any
    mask: Any
    next_obs: Any
    joined: Mapping[str, Any]
    obs: Any


class Held(NamedTuple):
    """What each lane acted on last, and its action, in the units of the agent."""

    obs: Any  # [S, O]
    action: Any  # [S, A]


class Explore(Protocol):
    """The environments of all lanes, see `dtql_jax.rollout.explorer.Explorer`."""

    def begin(self, record: dict[str, Any], rows: Transition, alive: np.ndarray) -> Told:
        """Brings the environments to where `record` and the rows `[S, n, ...]` leave them.

        From then on it keeps `record`, which JSON can hold, up to date.
        """

    def step(self, action: np.ndarray, alive: np.ndarray) -> Told:
        """One step of the lanes that are `alive`, by actions `[S, A]` in the agent's units."""

    def means(self) -> list[dict[str, float]]:
        """The means over each lane's episodes that ended since the last call."""


class Online:
    """Advances all lanes of an engine in the environment.

    Args:
        engine: the agent, its data and its lanes.
        explore: the environments.
    """

    def __init__(self, engine: Engine, explore: Explore):
        self.engine, self.explore = engine, explore
        *offline, self.phase = engine.agent.all_phases()
        self.begins = sum(phase.steps for phase in offline)  # the update before which it begins
        self.failure: Stopped | UserError | None = None  # that ended the last `advance` early
        self._program: jax.stages.Compiled | None = None
        self._held: Held | None = None
        self._action = np.zeros(0, np.float32)

    # The program.

    @own_numbers()
    def compile(self, phase: Phase) -> jax.stages.Compiled:
        """The program of the phase in the environment, compiled at the first call."""
        assert phase.online
        if self._program is None:
            engine = self.engine
            run = jax.shard_map(
                self._step,
                mesh=engine.mesh,
                in_specs=(*[PartitionSpec('lane')] * 5, PartitionSpec()),
                out_specs=PartitionSpec('lane'),
                check_vma=False,  # as in the engine
            )
            lowered = jax.jit(run, donate_argnums=(0, 1, 2)).lower(*self._shapes(), engine.data)
            deterministic = engine.agent.config.deterministic
            self._program = compile_for(engine.devices[0], lowered, deterministic)
        return self._program

    def _shapes(self) -> tuple[State, Metrics, Transition, Held, Told]:
        engine = self.engine
        lanes, data = len(engine.lanes), engine.data

        def shapes() -> tuple[Transition, Held, Told]:
            buffer = buffers.empty(data, lanes, self.phase.steps)
            obs, action = buffer.obs[:, 0], buffer.action[:, 0]
            number, flag = jnp.zeros(lanes), jnp.zeros(lanes, bool)
            told = Told(flag, number, number, obs, dict.fromkeys(buffer.extra, flag), obs)
            return buffer, Held(obs, action), told

        rest = engine.with_sharding(jax.eval_shape(shapes))
        return (engine.shapes, engine.metrics(self.phase), *rest)

    def _step(
        self,
        state: State,
        sums: Metrics,
        buffer: Transition,
        held: Held,
        told: Told,
        data: Transition,
    ) -> tuple[State, Metrics, Transition, Held, jax.Array]:
        """Writes the rows, makes an update of each lane, and acts; whether each is finite."""
        # The buffer stays outside of the loop over lanes, which would copy it.
        rows = state.step - self.begins
        row = Transition(held.obs, held.action, told.reward, told.mask, told.next_obs)
        buffer = buffers.insert(buffer, rows, told.made, row, told.joined)

        def draw(key: jax.Array, step: jax.Array, lane: jax.Array, rows: jax.Array) -> Transition:
            return buffers.sample(key, step, data, buffer, lane, rows, self.phase.batch_size)

        batch = jax.vmap(draw)(state.key, state.step, jnp.arange(len(rows)), rows + 1)
        lanes = (state, sums, batch, told.made, told.obs)
        if self.engine.one_by_one:
            result = jax.lax.map(lambda lane: self._update(*lane), lanes)
        else:
            result = jax.vmap(self._update)(*lanes)
        state, sums, action, finite = result
        return state, sums, buffer, Held(told.obs, action), finite

    def _update(
        self, state: State, sums: Metrics, batch: Transition, made: jax.Array, obs: jax.Array
    ) -> tuple[State, Metrics, jax.Array, jax.Array]:
        """The update of one lane, unless it diverges, and the lane's next action."""
        agent = self.engine.agent

        def update(state: State, sums: Metrics) -> tuple[State, Metrics]:
            state, metrics = agent.precise(self.phase.update)(state, batch)
            return state, jax.tree.map(jnp.add, sums, metrics)

        after = jax.lax.cond(made, update, lambda *before: before, state, sums)
        finite = all_finite(after[0])
        state, sums = jax.tree.map(lambda x, y: jnp.where(finite, x, y), after, (state, sums))
        key = jax.random.fold_in(jax.random.fold_in(state.key, EXPLORE_TAG), state.step)
        return state, sums, agent.precise(agent.explore)(state, obs, key), finite

    # Training.

    def begin(self, progress: OnlineProgress, cursor: Cursor, alive: np.ndarray) -> OnlineProgress:
        """Brings the environments to where the run is, and acts there.

        Args:
            progress: the arrays of the run.
            cursor: the point that it has reached. Its `exploring` is kept up to date from then on.
            alive: which lanes have not diverged, `[S]`.

        Raises:
            Stopped: on request.
            UserError: a simulator fails.
        """
        rows = buffers.filled(progress.buffer, cursor.step - self.begins)
        told = self.explore.begin(cursor.exploring, rows, alive)
        action = np.zeros((len(alive), self.engine.agent.spec.action_dim), np.float32)
        self._held = self.engine.shard(Held(told.obs, action))
        self.compile(self.phase)
        return self._dispatch(progress, told)[0]

    def advance(
        self, progress: OnlineProgress, n: int, alive: np.ndarray
    ) -> tuple[OnlineProgress, np.ndarray, int]:
        """`n` steps of all lanes that are `alive` `[S]`, each with an update.

        A lane that diverges stops at its last finite state. A simulator that fails ends the call
        early, with the reason in `failure`: the run is then at the step before.

        Returns:
            The progress, how many updates each lane made `[S]`, and how many steps there were.
        """
        done, alive = np.zeros(len(alive), int), alive.copy()
        for made in range(n):
            if not alive.any():
                break
            try:
                told = self.explore.step(self._action, alive)
            except (Stopped, UserError) as error:
                self.failure = error
                return progress, done, made
            progress, finite = self._dispatch(progress, told)
            alive &= finite
            done += alive
        return progress, done, n

    def _dispatch(self, progress: OnlineProgress, told: Told) -> tuple[OnlineProgress, np.ndarray]:
        """Calls the program; keeps the next actions, and returns which lanes are finite `[S]`."""
        name = self.phase.name
        assert self._program is not None
        with jax.transfer_guard('disallow'):
            state, sums, buffer, self._held, finite = self._program(
                progress.state, progress.sums[name], progress.buffer, self._held,
                self.engine.shard(told), self.engine.data,
            )  # fmt: skip
            self._action, flags = jax.device_get((self._held.action, finite))
        sums = {**progress.sums, name: sums}
        return progress.replace(state=state, sums=sums, buffer=buffer), flags
