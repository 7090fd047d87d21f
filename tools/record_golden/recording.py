"""What every recorder shares: weights by a formula, recorded noise, batches, summaries."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch

Trace = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]

BATCH_SEED, NOISE_SEED = 11, 5


@dataclasses.dataclass(frozen=True)
class Case:
    """The sizes of a case, its number of steps (per phase), and the settings that it records."""

    obs_dim: int
    action_dim: int
    batch_size: int
    steps: int
    settings: Mapping[str, Any]
    max_action: float = 1.0

    def meta(self) -> Trace:
        """The `meta/` entries of the trace."""
        dims = [self.obs_dim, self.action_dim, self.batch_size, self.steps]
        entries = {'dims': dims, **self.settings}
        return {f'meta/{name}': np.asarray(value) for name, value in entries.items()}

    def batches(self, count: int, next_action: bool = False) -> list[Batch]:
        """`count` random batches; two action entries lie on the border of the box."""
        rng = np.random.default_rng(BATCH_SEED)
        obs_shape = (self.batch_size, self.obs_dim)
        made = []
        for _ in range(count):
            action = np.tanh(rng.standard_normal((self.batch_size, self.action_dim)))
            action = action.astype(np.float32)
            action[0, 0], action[1, -1] = 1.0, -1.0
            batch = {
                'obs': rng.standard_normal(obs_shape),
                'action': action * np.float32(self.max_action),
                'next_obs': rng.standard_normal(obs_shape),
                'reward': rng.standard_normal((self.batch_size, 1)),
                'not_done': rng.random((self.batch_size, 1)) > 0.2,
            }
            if next_action:
                batch['next_action'] = np.tanh(rng.standard_normal(action.shape))
            made.append({name: np.asarray(x, np.float32) for name, x in batch.items()})
        return made


class Draws:
    """Noise of one NumPy generator in place of torch's, kept in the order of its use.

    Kinds: `n` standard normal, `u` uniform, `i` integers, `c` the coin of `np.random.uniform`.
    """

    def __init__(self) -> None:
        self._rng = np.random.default_rng(NOISE_SEED)
        self._log: list[tuple[str, np.ndarray]] = []

    @contextlib.contextmanager
    def recorded(self, trace: Trace, where: str) -> Iterator[None]:
        """Within, torch draws from here; afterwards `trace` has `<where>/draw<number>_<kind>`."""
        self._log.clear()
        normal = torch.distributions.Normal
        with contextlib.ExitStack() as stack:
            for owner, name, function in (
                (torch, 'randn', lambda *shape, **_: self._normal(_flat(shape))),
                (torch, 'randn_like', lambda x, **_: self._normal(x.shape)),
                (torch, 'rand', lambda *shape, **kw: self._uniform(_flat(shape), kw.get('dtype'))),
                (torch, 'randint', lambda low, high, size, **_: self._integers(low, high, size)),
                (normal, 'rsample', lambda n, _=(): n.loc + n.scale * self._normal(n.loc.shape)),
                (np.random, 'uniform', lambda *_, **__: float(self._keep('c', self._rng.random()))),
            ):
                stack.enter_context(mock.patch.object(owner, name, function))
            yield
        for number, (kind, x) in enumerate(self._log):
            trace[f'{where}/draw{number:02d}_{kind}'] = x

    def _keep(self, kind: str, x: Any) -> np.ndarray:
        self._log.append((kind, np.asarray(x)))
        return np.array(x)  # a copy, which the caller may write to

    def _normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        x = self._rng.standard_normal(tuple(shape)).astype(np.float32)
        return torch.from_numpy(self._keep('n', x))

    def _uniform(self, shape: tuple[int, ...], dtype: torch.dtype | None) -> torch.Tensor:
        x = torch.from_numpy(self._keep('u', self._rng.random(shape)))
        return x.to(dtype or torch.float32)

    def _integers(self, low: int, high: int, size: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(self._keep('i', self._rng.integers(low, high, tuple(size))))


def _flat(shape: tuple) -> tuple[int, ...]:
    """The shape that torch was given, as numbers or as one tuple."""
    return tuple(shape) if isinstance(shape[0], int) else tuple(shape[0])


@torch.no_grad()
def fill(network: torch.nn.Module, number: int) -> None:
    """Sets every tensor of a network by the formula of the README."""
    for k, (name, tensor) in enumerate(network.state_dict().items()):
        phase = 1.7 * np.arange(tensor.numel())
        if name.endswith('.W'):  # SRPO's fixed Fourier frequencies
            tensor.copy_(torch.tensor(30 * np.sin(phase), dtype=torch.float32))
            continue
        wave = torch.tensor(np.sin(phase + 0.3 * k + 0.9 * number), dtype=torch.float32)
        wave = wave.reshape(tensor.shape)
        if tensor.ndim == 2:
            tensor.copy_(wave * (1.5 / tensor.shape[1] ** 0.5))
        elif name.endswith('weight'):  # a LayerNorm's scale
            tensor.copy_(1 + 0.1 * wave)
        else:
            tensor.copy_(0.1 * wave)


def summaries(name: str, tensors: Mapping[str, torch.Tensor]) -> Trace:
    """Of each tensor: sum, L2 norm, the first four entries and the last two, in float64."""
    made = {}
    for tensor, value in tensors.items():
        x = value.detach().double().numpy().ravel()
        made[f'params/{name}/{tensor}'] = np.array(
            [x.sum(), np.sqrt((x * x).sum()), *x[:4], *x[-2:]]
        )
    return made


def add(trace: Trace, where: str, entries: Mapping[str, Any]) -> None:
    """Adds entries to the trace under the prefix `where`."""
    trace.update({f'{where}/{name}': np.asarray(value) for name, value in entries.items()})
