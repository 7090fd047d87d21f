"""What it costs to find the best of many trained policies with a budget of online episodes.

The question is that of Jackson et al., 'A Clean Slate for Offline Reinforcement Learning'
(arXiv:2504.11453): somebody trains policies offline, with several seeds and settings, may play so
many episodes, and then keeps one policy. Here, as there, a UCB bandit decides which policy plays
the next episode, and the policy with the highest mean so far is kept.

Unlike there, a trial deals the recorded episodes of each policy into two halves. The bandit plays
those of the first half, each once. The mean of the second half is the value of the policy that it
keeps. So luck in the episodes that decide does not raise the value: it is unbiased.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

EXPLORATION = 1.0  # weight of UCB's bonus, in standard deviations of an episode


@dataclasses.dataclass(frozen=True)
class Selection:
    """The value of the policy that is kept after each number of episodes.

    Attributes:
        policies: how many policies each trial chooses from.
        episodes: the budgets, `[K]`: 1, 2, ...
        mean: the expected value of the policy that is kept, `[K]`.
        low: the value that 1 of 10 trials stays below, `[K]`.
        high: the value that 1 of 10 trials exceeds, `[K]`.
    """

    policies: int
    episodes: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def select(pool: Sequence[np.ndarray], policies: int, budget: int, trials: int = 500) -> Selection:
    """Simulates the choice among `policies` policies, drawn anew from the pool in each trial.

    Args:
        pool: the scores of the recorded episodes of each policy, two at least.
        policies: the number of policies of a trial; at most as many as the pool has.
        budget: the most episodes; fewer where the first halves have fewer.
        trials: the number of simulations. Their random numbers are fixed.

    Raises:
        ValueError: a policy has fewer than two episodes, or the pool has too few policies.
    """
    if not 0 < policies <= len(pool) or min(map(len, pool)) < 2:
        raise ValueError('needs as many policies as a trial has, with two episodes at least')
    rng = np.random.default_rng(0)
    # [trials, policies]; without replacement, in random order
    chosen = np.argsort(rng.random((trials, len(pool))), axis=1)[:, :policies]
    first, counts, values = _halves(rng, pool, chosen)
    # All trials play the same number of episodes, so that a mean over them is over all.
    budget = min(budget, int(counts.sum(1).min()))
    spread = float(np.mean([np.std(scores) for scores in pool]))
    kept = _play(first, counts, budget, EXPLORATION * spread)
    reached = np.take_along_axis(values, kept, axis=1)
    low, high = np.quantile(reached, [0.1, 0.9], axis=0)
    return Selection(policies, np.arange(1, budget + 1), reached.mean(0), low, high)


def _halves(
    rng: np.random.Generator, pool: Sequence[np.ndarray], chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deals the episodes of each policy of each trial.

    Returns:
        The scores of the first half in the order in which they are played, `[trials, policies, E]`
        with NaN behind the last; how many those are; and the means of the second half.
    """
    longest = max(map(len, pool))
    padded = np.full((len(pool), longest), np.nan)
    for row, scores in zip(padded, pool, strict=True):
        row[: len(scores)] = scores
    lengths = np.array([len(scores) for scores in pool])[chosen]
    ranks = rng.random((*chosen.shape, longest))
    ranks[np.arange(longest) >= lengths[..., None]] = 2  # behind all episodes
    order = np.argsort(ranks, axis=-1)
    dealt = np.take_along_axis(padded[chosen], order, axis=-1)
    counts, place = lengths // 2, np.arange(longest)
    later = (place >= counts[..., None]) & (place < lengths[..., None])
    values = np.where(later, dealt, 0).sum(-1) / later.sum(-1)
    first = np.where(place < counts[..., None], dealt, np.nan)[..., : counts.max()]
    return first, counts, values


def _play(first: np.ndarray, counts: np.ndarray, budget: int, unit: float) -> np.ndarray:
    """Which policy of each trial is kept after each episode, `[trials, budget]`."""
    trials, rows = len(first), np.arange(len(first))
    pulls, sums = np.zeros(counts.shape, int), np.zeros(counts.shape)
    kept = np.empty((trials, budget), int)
    for step in range(budget):
        with np.errstate(divide='ignore', invalid='ignore'):
            bonus = unit * np.sqrt(2 * np.log(step + 1) / pulls)
            index = np.where(pulls == 0, np.inf, sums / pulls + bonus)
        index[pulls >= counts] = -np.inf  # all its episodes are played
        arm = np.argmax(index, axis=1)
        sums[rows, arm] += first[rows, arm, pulls[rows, arm]]
        pulls[rows, arm] += 1
        means = np.where(pulls == 0, -np.inf, sums / np.maximum(pulls, 1))
        kept[:, step] = np.argmax(means, axis=1)
    return kept
