"""How lanes advance beside each other: by `vmap` or one by one, and over how many devices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dtql_jax.agents.base import Agent, State
from dtql_jax.training.update import Update
from dtql_jax.types import Lane, Metrics, Transition, UserError


def run_by_vmap(updates: Callable[..., tuple]) -> Callable[..., tuple]:
    """`updates` over the lanes of a device, all at once."""

    def over_lanes(state: State, sums: Metrics, data: Transition, n: jax.Array) -> tuple:
        return jax.vmap(updates, in_axes=(0, 0, None, None))(state, sums, data, n)

    return over_lanes


def run_one_by_one(updates: Callable[..., tuple]) -> Callable[..., tuple]:
    """`updates` over the lanes of a device, one lane after the other.

    Batched products are slower than plain ones on a CPU, and one lane fills its cores: four seeds
    of DTQL make 46 updates/s together by `vmap` where one makes 51, and one by one as many as one.
    """

    def over_lanes(state: State, sums: Metrics, data: Transition, n: jax.Array) -> tuple:
        return jax.lax.map(lambda lane: updates(*lane, data, n), (state, sums))

    return over_lanes


def where_lane(choose: jax.Array, tree: Any, other: Any) -> Any:
    """`tree` in the lanes where `choose` `[S]` holds, `other` elsewhere."""

    def select(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(choose.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(select, tree, other)


def zeros_of(updates: Mapping[str, Update], lanes: int, name: str) -> Metrics:
    """Zeros of the metrics of the update `name`, for all lanes `[S]`."""
    return jax.tree.map(lambda x: jnp.zeros((lanes, *x.shape), x.dtype), updates[name].metrics)


def placed(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Arrays on the devices of a sharding; shapes stay shapes and name it."""

    def place(x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        return jax.device_put(x, sharding)

    return jax.tree.map(place, tree)


def usable_devices(num_lanes: int, num_devices: int) -> int:
    """The largest number of devices, at most `num_devices`, that divides `num_lanes`."""
    return max(d for d in range(1, num_devices + 1) if num_lanes % d == 0)


def check_hparams(agent: Agent, lanes: Sequence[Lane]) -> None:
    """Raises UserError where a lane has a hyper-parameter that the agent lacks."""
    known = agent.config.floats()
    for lane in lanes:
        for name in lane.hparams:
            if name not in known:
                raise UserError(
                    f'lane {lane.variant!r}: no hyper-parameter {name!r}; known: {", ".join(known)}'
                )
