"""What an agent is: a frozen recipe with pure `init`, phases of `update`, and `act`.

An agent never sees seeds, devices, files or environments: the engine adds those around it. Its
`Config` holds every setting. One rule sorts them: fields annotated `float` are data, carried in
`State.hparams` so that lanes of one compiled program may differ in them; all others are static.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dtql_jax.types import Metrics, Params, Phase, Spec, State, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings that every agent has. `steps` counts updates of the last phase."""

    steps: int = 1_000_000  # updates of the last phase
    batch_size: int = 256
    eval_every: int = 50_000  # updates between evaluations
    reward: str = 'none'  # reward transform of the data, by name
    clone_seeds: int = 0  # further lanes, trained with `Agent.clone` for comparison
    discount: float = 0.99
    precision: str = 'highest'  # of matrix products; or high, default: TF32 on a GPU, less on a TPU

    def __post_init__(self) -> None:
        check_choice('precision', self.precision, ['default', 'high', 'highest'])

    def hparams(self) -> dict[str, float]:
        """The float fields by name: data of the compiled program, not constants in it."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.type in (float, 'float')
        }


Loss = Callable[..., tuple[jax.Array, Metrics]]


@dataclasses.dataclass(frozen=True)
class Agent:
    """The interface, and `descend`, the only place with a gradient.

    A subclass defines `config_class`, `networks`, `phases`, `acting` and `act`; `targets` names
    the networks that have a slowly moving copy. `clone` are the hyper-parameters that turn the
    agent into a clone of the behaviour, for the comparison in a run's table; None where none do.
    """

    spec: Spec
    config: Config

    config_class: ClassVar[type[Config]] = Config
    targets: ClassVar[tuple[str, ...]] = ()
    clone: ClassVar[Mapping[str, float] | None] = None

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
            hparams={k: jnp.float32(v) for k, v in self.config.hparams().items()},
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

    def track(self, state: State, name: str, tau: jax.Array) -> State:
        """The target of the network `name` moves: `target <- tau * params + (1 - tau) * target`."""
        target = optax.incremental_update(state.params[name], state.target[name], tau)
        return state.replace(target={**state.target, name: target})


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam's direction `m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)` (arXiv 1412.6980).

    As optax's, but for the corrections: `1 - b^t` in float32 cancels, which makes optax's first
    step 6e-6 too short. `-expm1(t ln b)` does not.
    """

    def correction(b: float, count: jax.Array) -> jax.Array:
        return -jnp.expm1(count * math.log(b))

    def update(
        gradient: Params, state: optax.ScaleByAdamState, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByAdamState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradient)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, gradient)
        c1, c2 = correction(b1, count), correction(b2, count)
        direction = jax.tree.map(lambda m, v: m / c1 / (jnp.sqrt(v / c2) + eps), mu, nu)
        return direction, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)


def clip_by_norm(gradient: Params, max_norm: jax.Array) -> Params:
    """`gradient * min(1, max_norm / (norm + 1e-6))` with the global L2 norm, as torch clips."""
    factor = jnp.minimum(1.0, max_norm / (optax.global_norm(gradient) + 1e-6))
    return jax.tree.map(lambda g: g * factor, gradient)


def min_q(q: nn.Module, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """The ensemble's minimum at one observation `[O]` for many actions `[N, A]`: `[N]`."""
    obs = jnp.broadcast_to(obs, (action.shape[0], *obs.shape))
    return q.apply({'params': params}, obs, action).min(0)


def draw_by_q(
    key: jax.Array,
    q_fn: Callable[[jax.Array], jax.Array],
    candidates: jax.Array,
    inverse_temperature: jax.Array,
) -> jax.Array:
    """One of `candidates` `[N, A]`, drawn with probabilities `softmax(inverse_temperature * Q)`.

    `q_fn` is `[N, A] -> [N]`. The logits are the Q values themselves: handing `softmax(Q)` to a
    categorical, a known slip, draws almost uniformly.
    """
    return candidates[jax.random.categorical(key, inverse_temperature * q_fn(candidates))]


def best_by_q(q_fn: Callable[[jax.Array], jax.Array], candidates: jax.Array) -> jax.Array:
    """The one of `candidates` `[N, A]` with the largest Q; `q_fn` as in `draw_by_q`."""
    return candidates[jnp.argmax(q_fn(candidates))]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises UserError where the setting `name` has a `value` that is none of `choices`."""
    if value not in choices:
        raise UserError(f'{name}={value}: must be one of {", ".join(choices)}')
