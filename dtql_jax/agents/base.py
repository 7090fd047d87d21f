"""What an agent is: a frozen recipe with pure `init`, phases of `update`, and `act`.

An agent never sees seeds, devices, files or environments: the engine adds those around it. Its
`Config` holds every setting. One rule sorts them: fields annotated `float` are data, carried in
`State.hparams` so that lanes of one compiled program may differ in them; all others are static.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from dtql_jax.agents.settings import Settings, setting
from dtql_jax.nn.optim import clip_by_norm, scale_by_adam
from dtql_jax.types import Metrics, Params, Phase, Rare, Spec


class State(struct.PyTreeNode):
    """All the data that training changes; one `vmap` adds the seed axis to every leaf.

    `hparams` are the float hyper-parameters: data, not constants, so that lanes of one compiled
    program may differ in them. `key` never changes: the key of a step is `fold_in(key, step)`,
    so a run resumes exactly. `step` counts every update and does not restart between phases.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    opt: dict[str, Any]
    hparams: dict[str, jax.Array]
    key: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings that every agent has. `steps` counts updates of the last phase."""

    steps: int = setting(1_000_000, 'updates of the last phase', least=1)
    batch_size: int = setting(256, 'transitions per update', least=1)
    eval_every: int = setting(50_000, 'updates between evaluations', least=1)
    reward: str = setting('none', 'transform of the rewards, by name')
    clone_seeds: int = setting(0, 'further lanes that train a clone of the data, to compare with')
    discount: float = setting(0.99, 'discount of future rewards', most=1)
    precision: str = setting(
        'highest',
        'of matrix products, as jax names it; below highest: TF32 on a GPU, less on a TPU',
        choices=('default', 'high', 'highest'),
    )


Loss = Callable[..., tuple[jax.Array, Metrics]]


@dataclasses.dataclass(frozen=True)
class Agent:
    """The interface, and `descend`, the only place with a gradient.

    A subclass defines `config_class`, `networks`, `phases`, `acting` and `act`; `targets` names
    the networks that have a slowly moving copy. `clone` are the hyper-parameters that turn the
    agent into a clone of the behaviour, for the comparison in a run's table; None where none do.
    `columns` names what batches carry in `extra`, see `dtql_jax.data.columns`.
    """

    spec: Spec
    config: Config

    config_class: ClassVar[type[Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ()
    clone: ClassVar[Mapping[str, float] | None] = None
    columns: ClassVar[tuple[str, ...]] = ()

    def networks(self) -> dict[str, tuple[nn.Module, tuple[jax.Array, ...]]]:
        """Each network's module and example inputs, by name."""
        raise NotImplementedError

    @property
    def examples(self) -> tuple[jax.Array, jax.Array]:
        """An observation `[1, O]` and an action `[1, A]` to initialise networks with."""
        return jnp.zeros((1, self.spec.obs_dim)), jnp.zeros((1, self.spec.action_dim))

    def phases(self) -> tuple[Phase, ...]:
        """The phases of training, in order."""
        raise NotImplementedError

    def acting(self, state: State) -> Params:
        """The part of `state` that `act` reads."""
        raise NotImplementedError

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """An action `[A]` inside the box for one observation `[O]`."""
        raise NotImplementedError

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The direction of descent of a network, before its learning rate."""
        del name
        return scale_by_adam()

    def init(self, key: jax.Array) -> State:
        """A fresh state: parameters drawn from `key`, which is also the key of the run."""
        key_init, key_run = jax.random.split(key)
        networks = self.networks()
        params = {
            name: module.init(k, *inputs)['params']
            for k, (name, (module, inputs)) in zip(
                jax.random.split(key_init, len(networks)), networks.items(), strict=True
            )
        }
        return State(
            params=params,
            # A copy of its own: a donated buffer must not appear twice in a state.
            target={name: jax.tree.map(jnp.copy, params[name]) for name in self.targets},
            opt={name: self.optimiser(name).init(p) for name, p in params.items()},
            hparams={k: jnp.float32(v) for k, v in self.config.floats().items()},
            key=key_run,
            step=jnp.int32(0),
        )

    def descend(
        self,
        state: State,
        name: str,
        lr: jax.Array,
        loss: Loss,
        *inputs: Any,
        max_norm: jax.Array | None = None,
    ) -> tuple[State, Metrics]:
        """One step of the network `name` down `loss(state, *inputs) -> (scalar, metrics)`.

        The loss sees the whole state as it is now, so what was updated before is seen updated;
        the gradient is taken with respect to the one network's parameters only. With `max_norm`
        its global norm is clipped, see `clip_by_norm`.
        """

        def objective(params: Params) -> tuple[jax.Array, Metrics]:
            return loss(state.replace(params={**state.params, name: params}), *inputs)

        gradient, metrics = jax.grad(objective, has_aux=True)(state.params[name])
        if max_norm is not None:
            gradient = clip_by_norm(gradient, max_norm)
        direction, opt = self.optimiser(name).update(gradient, state.opt[name], state.params[name])
        params = jax.tree.map(lambda p, d: p - lr * d, state.params[name], direction)
        state = state.replace(params={**state.params, name: params}, opt={**state.opt, name: opt})
        return state, metrics

    def precise(self, function: Callable) -> Callable:
        """`function` with matrix products as exact as the setting `precision` says.

        The names are jax's: 'highest' is float32 everywhere. A CPU knows nothing less.
        """

        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            with jax.default_matmul_precision(self.config.precision):
                return function(*args)

        return wrapped

    def when(
        self, due: jax.Array, update: Callable[[State], tuple[State, Metrics]], state: State
    ) -> tuple[State, Metrics]:
        """`update(state)` where `due` holds, else `state`: a delayed update.

        Its metrics become `Rare`: they are averaged over the updates that made them.
        """

        def skip(state: State) -> tuple[State, Metrics]:
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        shapes = jax.eval_shape(update, state)[1]
        state, metrics = jax.lax.cond(due, update, skip, state)
        made = jnp.asarray(due, jnp.float32)
        return state, {name: Rare(value, made) for name, value in metrics.items()}

    def track(self, state: State, name: str, tau: jax.Array) -> State:
        """The target of the network `name` moves: `target <- tau * params + (1 - tau) * target`."""
        target = optax.incremental_update(state.params[name], state.target[name], tau)
        return state.replace(target={**state.target, name: target})
