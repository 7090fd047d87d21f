"""What is measured of samples in the plane against a toy set."""

from typing import Any

import numpy as np

from dtql_jax.tasks import toys

LEAST = 0.1  # a mode is found by this part of its share of the data
COMPARED = 1_000  # actions of the data in the energy distance


def modes_found(name: str, action: np.ndarray) -> int:
    """How many modes of the set `name` have a tenth of their share of the data, or more.

    Only samples that belong to the data count, see `ToySet.nearest`.
    """
    toy = toys.SETS[name]()
    mode, within = toy.nearest(action)
    found = np.bincount(mode[within], minlength=mode_count(name)) / len(action)
    share = np.bincount(toy.mode) / len(toy.mode)
    return int((found >= LEAST * share).sum())


def mode_count(name: str) -> int:
    """How many modes the set `name` has."""
    return int(toys.SETS[name]().mode.max()) + 1


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """`2 E |X - Y| - E |X - X'| - E |Y - Y'|` of samples `[N, A]` and `[M, A]`; 0 if they agree."""

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a[:, None] - b) ** 2).sum(-1)).mean())

    return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def some_data(name: str) -> np.ndarray:
    """Evenly spaced rows of the data, so that every mode has its share."""
    return toys.actions(name)[:: toys.SIZE // COMPARED].astype(np.float64)


def measures(name: str, reward: str, action: np.ndarray) -> dict[str, Any]:
    """The numbers of one lane's samples `[N, 2]`."""
    best = toys.BEST[name].get(reward)
    mean = toys.rewards(name, reward, action).mean()
    return {
        'modes': modes_found(name, action),
        'within': float(toys.SETS[name]().nearest(action)[1].mean()),
        'reward_of_best': None if best is None else float(mean / best),
        'energy': energy_distance(action.astype(np.float64), some_data(name)),
    }


def references(name: str, reward: str) -> dict[str, dict[str, Any]]:
    """The numbers of draws of the data and of uniform ones in the box, as many as compared."""
    rng, bound = np.random.default_rng(1), np.abs(toys.actions(name)).max()
    samples = {
        'the data': toys.SETS[name]().draw(rng, COMPARED),
        'uniform in the box': rng.uniform(-bound, bound, (COMPARED, 2)),
    }
    return {what: measures(name, reward, action) for what, action in samples.items()}


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value."""
    found = np.empty(len(values))
    found[values.argsort()] = np.arange(len(values))
    return found
