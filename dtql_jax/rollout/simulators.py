"""The simulators of one process: what a simulator does wrong costs one episode, and is told.

Worker processes load this module, so it imports no jax.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from dtql_jax.rollout.worker import answering
from dtql_jax.tasks.success import SUCCESS, succeeded
from dtql_jax.types import UserError, why

MakeEnv = Callable[[], gymnasium.Env]

SUCCESS_KEYS = ' nor '.join(f'info[{key!r}]' for key in SUCCESS)
API = (
    'it needs the interface of gymnasium: reset(seed=...) -> (obs, info), step(action) -> 5 values'
)


class Steps(NamedTuple):
    """The results of one step, or of one reset, in `n` environments."""

    obs: np.ndarray  # [n, O] float32
    reward: np.ndarray  # [n] float64
    terminated: np.ndarray  # [n] bool
    truncated: np.ndarray  # [n] bool
    success: np.ndarray  # [n] float64: 1 or 0, NaN where the environment reports no success
    failure: np.ndarray  # [n] text: why the environment failed; empty where it did not


class Simulators:
    """Holds environments by their slots. An error of one is an answer, and concerns no other.

    Args:
        make_env: makes one environment.
        slots: the numbers of the environments.

    Raises:
        UserError: an environment cannot be made.
    """

    def __init__(self, make_env: MakeEnv, slots: Sequence[int]):
        self._make_env = make_env
        self._envs: dict[int, gymnasium.Env] = {}
        self._broken: set[int] = set()
        self._steps: dict[int, int] = {}  # of the episode under way
        try:
            for slot in slots:
                self._envs[slot] = self._made()
        except UserError:
            self.close()
            raise

    def answer(self, method: str, slots: Sequence[int], values: np.ndarray) -> Steps:
        """Resets or steps the environments in `slots`, one value (seed or action) for each."""
        play = self._reset if method == 'reset' else self._step
        rows = [
            self._try(play, int(slot), value) for slot, value in zip(slots, values, strict=True)
        ]
        return Steps(*(np.array(column) for column in zip(*rows, strict=True)))

    def spaces(self, slot: int) -> tuple[gymnasium.Space, gymnasium.Space]:
        """The spaces of observations and actions of an environment."""
        return self._envs[slot].observation_space, self._envs[slot].action_space

    def random_by_intent(self, slot: int) -> bool:
        """Whether an environment is registered as one whose episodes do not repeat."""
        return bool(getattr(self._envs[slot].spec, 'nondeterministic', False))

    def close(self) -> None:
        """Closes the environments."""
        for slot in self._envs:
            self._close(slot)

    def _made(self) -> gymnasium.Env:
        try:
            return self._make_env()
        except UserError:
            raise
        except BaseException as error:  # also of one that leaves by `sys.exit`
            raise UserError(
                f'a simulator cannot be made: {why(error)}; mend it, or name another environment'
            ) from error

    def _close(self, slot: int) -> None:
        """Closes an environment. Its results are there already, so an error does no harm."""
        with contextlib.suppress(Exception):
            self._envs[slot].close()

    def _try(self, play: Callable[[int, Any], tuple], slot: int, value: Any) -> tuple:
        """A row of `Steps`; one that tells why where the environment fails."""
        try:
            # A number beyond float32 becomes inf, which whoever reads it reports.
            with np.errstate(over='ignore'):
                return (*play(slot, value), '')
        except BaseException as error:  # no signal arrives here, and `sys.exit` is a mistake too
            self._broken.add(slot)
            what = 'reset' if play == self._reset else 'step'
            return (*self._nothing(slot), f'its {what} failed: {why(error)}')

    def _nothing(self, slot: int) -> tuple:
        """A row without values."""
        shape = self._envs[slot].observation_space.shape
        return np.full(shape, np.nan, np.float32), np.nan, False, False, np.nan

    def _reset(self, slot: int, seed: int) -> tuple:
        if slot in self._broken:  # nobody knows what state the error has left
            self._broken.discard(slot)
            self._close(slot)
            self._envs[slot] = self._made()
        self._steps[slot] = 0
        obs, _ = self._envs[slot].reset(seed=int(seed))
        return self._checked(slot, obs), 0.0, False, False, np.nan

    def _step(self, slot: int, action: np.ndarray) -> tuple:
        obs, reward, terminated, truncated, info = self._envs[slot].step(action)
        over = bool(terminated), bool(truncated)
        self._steps[slot] += 1
        horizon = getattr(self._envs[slot].spec, 'max_episode_steps', None)
        if horizon and self._steps[slot] > horizon and not any(over):
            raise ValueError(f'the episode goes on after the {horizon} steps of its horizon')
        return self._checked(slot, obs), float(reward), *over, succeeded(info)

    def _checked(self, slot: int, obs: Any) -> np.ndarray:
        """The observation as float32, in the shape of its space."""
        obs, shape = np.asarray(obs, np.float32), self._envs[slot].observation_space.shape
        if obs.shape != shape:
            raise ValueError(f'an observation of shape {obs.shape}, in a space of {shape}')
        return obs


def serve(pipe: Any, make_env: MakeEnv, slots: Sequence[int]) -> None:
    """Runs in a worker or a thread: answers requests until the pipe closes."""
    with answering(pipe), contextlib.closing(Simulators(make_env, slots)) as simulators:
        pipe.send(None)
        while True:
            pipe.send(simulators.answer(*pipe.recv()))
