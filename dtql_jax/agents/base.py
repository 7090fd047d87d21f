"""The interface of agents: a frozen object with pure functions `init`, `update` and `act`.

An agent knows nothing of seeds, devices, files or environments: the engine handles those. Its
`Config` holds every setting. Settings of type `float` are data: `State.hparams` holds them, so the
lanes of one compiled program may differ in them. All other settings are compiled in.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from dtql_jax.agents.settings import Settings, setting
from dtql_jax.nn.kernels import either
from dtql_jax.nn.optim import clip_by_norm, scale_by_adam
from dtql_jax.types import Metrics, Params, Phase, Rare, Spec

EDGE = 1 - 1e-5  # jaxrl's codes clip the data's actions to this share of the box


class State(struct.PyTreeNode):
    """All data that training changes. The engine adds an axis for the lanes to every leaf.

    Attributes:
        params: the parameters of each network by name.
        target: the slowly moving copy of each network in `Agent.targets`.
        opt: the state of each network's optimiser.
        hparams: the float settings.
        key: the key of the run. It never changes: the key of an update is `fold_in(key, step)`, so
            a run resumes exactly.
        step: the number of updates so far, over all phases.
    """

    params: dict[str, Params]
    target: dict[str, Params]
    opt: dict[str, Any]
    hparams: dict[str, jax.Array]
    key: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The settings of every agent."""

    steps: int = setting(1_000_000, 'number of updates in the last phase of training', least=1)
    online_steps: int = setting(
        0, 'number of steps in the environment after the last phase, each with an update'
    )
    batch_size: int = setting(256, 'number of transitions per update', least=1)
    eval_every: int = setting(50_000, 'number of updates between evaluations', least=1)
    reward: str = setting('none', 'name of the transform that is applied to the rewards')
    clone_seeds: int = setting(
        0, 'number of extra lanes that train a clone of the data, as a comparison'
    )
    discount: float = setting(0.99, 'discount factor of future rewards', most=1)
    precision: str = setting(
        'highest',
        'precision of matrix products; below highest, a GPU uses TF32 and a TPU less',
        choices=('default', 'high', 'highest'),
    )
    deterministic: bool = setting(
        False, 'take the kernels on a GPU that repeat their bits, without trying which are fast'
    )
    gradient_norms: bool = setting(
        False, 'log the norm of the gradient of each network, before it is clipped'
    )
    horizon_length: int = setting(
        1, 'number of actions that are chosen at once and played in a row', least=1
    )


Loss = Callable[..., tuple[jax.Array, Metrics]]
Carry = TypeVar('Carry')


@dataclasses.dataclass(frozen=True)
class Agent:
    """An algorithm. A subclass defines `config_class`, `networks`, `phases`, `acting` and `act`.

    Attributes:
        spec: the sizes of the task.
        config: the settings.
        config_class: the class of `config`.
        targets: the names of the networks that have a slowly moving copy in `State.target`.
        clone: the float settings that turn the agent into a clone of the data, for the comparison
            in a run's table; None if there are none.
        inherited: the names of the networks that a run takes over from the run of `init_from`; None
            for all of them.
        columns: the names of further columns that batches hold in `Transition.extra`, see
            `dtql_jax.data.columns`.
        task_settings: settings of the task that the method asks for, such as `normalize_obs`. A run
            may set them otherwise.
        offline_only: why the agent cannot go on in the environment; None where it can.
    """

    spec: Spec
    config: Config

    config_class: ClassVar[type[Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ()
    clone: ClassVar[Mapping[str, float] | None] = None
    inherited: ClassVar[tuple[str, ...] | None] = None
    columns: ClassVar[tuple[str, ...]] = ()
    task_settings: ClassVar[Mapping[str, Any]] = {}
    offline_only: ClassVar[str | None] = None

    def networks(self) -> dict[str, tuple[nn.Module, tuple[jax.Array, ...]]]:
        """The module and example inputs of each network, by name."""
        raise NotImplementedError

    @property
    def examples(self) -> tuple[jax.Array, jax.Array]:
        """An observation `[1, O]` and an action `[1, A]`: inputs to initialise networks with."""
        return jnp.zeros((1, self.spec.obs_dim)), jnp.zeros((1, self.spec.action_dim))

    def phases(self) -> tuple[Phase, ...]:
        """The phases of training on the data, in order."""
        raise NotImplementedError

    def all_phases(self) -> tuple[Phase, ...]:
        """`phases` and, with `online_steps`, the updates of the last one in the environment."""
        phases, steps = self.phases(), self.config.online_steps
        if not steps:
            return phases
        last = dataclasses.replace(phases[-1], name='online', steps=steps, enter=None, online=True)
        return (*phases, last)

    def acting(self, state: State) -> Params:
        """The part of `state` that `act` uses."""
        raise NotImplementedError

    def act(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The action `[A]`, inside the box, for one observation `[O]`."""
        raise NotImplementedError

    def explore(self, state: State, obs: jax.Array, key: jax.Array) -> jax.Array:
        """The action `[A]` with which a run goes on in the environment; `act`'s by default."""
        return self.act(self.acting(state), obs, key)

    def behave(self, acting: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
        """`act` for an observation `[O]` and an action `[A]` in the units of the user.

        Whatever acts outside of training acts by it. `spec` has the numbers.
        """
        return self.outward(self.act(acting, self.inward(obs), key))

    def inward(self, obs: Any) -> Any:
        """Observations `[..., O]`, of jax or NumPy, from the units of the user to the agent's."""
        mean, std = (np.asarray(x, np.float32) for x in (self.spec.obs_mean, self.spec.obs_std))
        return (obs - mean) / std if mean.size else obs

    def outward(self, action: Any) -> Any:
        """Actions `[..., A]`, of jax or NumPy, from the units of the agent to the user's."""
        box = self.spec.action_low, self.spec.action_high
        low, high = (np.asarray(side, np.float32) for side in box)
        if not low.size:
            return action
        return (low + (action / self.spec.max_action + 1) * (high - low) / 2).clip(low, high)

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of the network `name`, without its learning rate. Adam by default."""
        del name
        return scale_by_adam()

    def init(self, key: jax.Array) -> State:
        """The initial state. One part of `key` draws the parameters, one becomes `State.key`."""
        key_init, key_run = jax.random.split(key)
        networks = self.networks()
        keys = jax.random.split(key_init, len(networks))
        params = {
            name: module.init(k, *inputs)['params']
            for k, (name, (module, inputs)) in zip(keys, networks.items(), strict=True)
        }
        return State(
            params=params,
            # Copied, because a donated buffer must not appear twice in a state.
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
        """One optimiser step of the network `name` on a loss.

        Args:
            state: the current state. The loss uses all of it, also earlier steps of the update.
            name: the network. The gradient is that of its parameters only.
            lr: the learning rate.
            loss: `loss(state, *inputs) -> (scalar, metrics)`.
            *inputs: passed on to `loss`, such as the batch.
            max_norm: the bound on the gradient's global norm, see `clip_by_norm`; None for none.

        Returns:
            The new state, and the metrics of the loss. With the setting `gradient_norms` they have
            `NAME/grad_norm`, the gradient's global norm before it is clipped.
        """

        def objective(params: Params) -> tuple[jax.Array, Metrics]:
            return loss(state.replace(params={**state.params, name: params}), *inputs)

        gradient, metrics = jax.grad(objective, has_aux=True)(state.params[name])
        if self.config.gradient_norms:
            norm: Any = optax.global_norm(gradient)
            for value in metrics.values():
                if isinstance(value, Rare):  # of a loss that only some updates have
                    norm = Rare(norm * value.count, value.count)
                    break
            metrics = {**metrics, f'{name}/grad_norm': norm}
        if max_norm is not None:
            gradient = clip_by_norm(gradient, max_norm)
        direction, opt = self.optimiser(name).update(gradient, state.opt[name], state.params[name])
        params = jax.tree.map(lambda p, d: p - lr * d, state.params[name], direction)
        state = state.replace(params={**state.params, name: params}, opt={**state.opt, name: opt})
        return state, metrics

    def descend_together(
        self, state: State, steps: Mapping[str, tuple[jax.Array, Loss]], *inputs: Any
    ) -> tuple[State, Metrics]:
        """One optimiser step of several networks, as if by one optimiser on the sum of the losses.

        Args:
            state: the current state. Every loss uses it as it is before the step, see `descend`.
            steps: the learning rate and the loss of each network, which alone has its gradient.
            *inputs: passed on to the losses.

        Returns:
            The new state, and the metrics of all losses.
        """
        metrics: Metrics = {}
        params, opt = dict(state.params), dict(state.opt)
        for name, (lr, loss) in steps.items():
            moved, told = self.descend(state, name, lr, loss, *inputs)
            params[name], opt[name] = moved.params[name], moved.opt[name]
            metrics |= told
        return state.replace(params=params, opt=opt), metrics

    def unit(self, action: jax.Array) -> jax.Array:
        """The data's actions in units of the box, clipped to `EDGE`."""
        return jnp.clip(action / self.spec.max_action, -EDGE, EDGE)

    def precise(self, function: Callable) -> Callable:
        """Wraps `function` so that its matrix products have the precision of the settings.

        The precisions are jax's: 'highest' is float32 everywhere, and on a CPU all are float32.
        """

        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            with jax.default_matmul_precision(self.config.precision):
                return function(*args)

        return wrapped

    def when(
        self, due: jax.Array, update: Callable[[Carry], tuple[Carry, Metrics]], state: Carry
    ) -> tuple[Carry, Metrics]:
        """A delayed update: applies `update` if `due` holds, else returns `state` unchanged.

        Args:
            due: a boolean scalar, such as `state.step % 2 == 0`.
            update: `update(state) -> (state, metrics)`.
            state: the current state, or what else `update` replaces.

        Returns:
            The new state, and the metrics as `Rare`, averaged over the updates that had them.
        """

        def skip(state: Carry) -> tuple[Carry, Metrics]:
            return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        shapes = jax.eval_shape(update, state)[1]
        state, metrics = either(due, update, skip, state)
        made = jnp.asarray(due, jnp.float32)
        return state, {
            name: value if isinstance(value, Rare) else Rare(value, made)
            for name, value in metrics.items()
        }

    def track(self, state: State, name: str, tau: jax.Array) -> State:
        """Moves the target of a network: `target <- tau * params + (1 - tau) * target`."""
        target = optax.incremental_update(state.params[name], state.target[name], tau)
        return state.replace(target={**state.target, name: target})
