"""The dataset card: the numbers to look at before training on a dataset."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.data.episodes import Episodes
from dtql_jax.data.success import UNKNOWN, of_episode
from dtql_jax.tasks import recorded
from dtql_jax.tasks.success import SUCCESS
from dtql_jax.tasks.task import Task
from dtql_jax.types import Transition

NOT_KNOWN = 'not known'
FEW = 8  # up to this number of distinct rewards each is counted


def make_card(
    task: Task, episodes: Episodes, transitions: Transition, reward: str
) -> dict[str, Any]:
    """The numbers of a dataset, ready for JSON.

    Returns are undiscounted and counted as an evaluation counts them: from an episode's start to
    its horizon or, where success ends it, to the goal.

    Args:
        task: as loaded.
        episodes: the data before the transform of rewards.
        transitions: the data after it.
        reward: the name of the transform.
    """
    returns, outcomes = _outcomes(task, episodes, np.asarray(transitions.mask))
    told = outcomes != UNKNOWN
    success = _rate(outcomes)
    values, counts = np.unique(episodes.reward, return_counts=True)
    unknown = task.scored == 'success' and success is None
    score = None if unknown else task.score(returns.mean(), success)
    return {
        'task': task.name,
        'datasets': list(task.datasets),
        'source': task.source,
        'environment': task.env_id,
        'goal': task.goal,
        'success_ends': task.success_ends,
        'reward_transform': reward,
        'transitions': len(episodes.reward),
        'episodes': len(episodes.length),
        'obs_dim': transitions.obs.shape[1],
        'action_dim': transitions.action.shape[1],
        'max_action': episodes.max_action,
        'actions': task.actions,
        'normalize_obs': task.normalize_obs,
        'return': _moments(returns),
        'score': None if score is None else float(score),
        'tells_success': task.tells_success,
        'success_rate': float(success) if task.tells_success and success is not None else None,
        'reward': _moments(episodes.reward),
        'reward_counts': {f'{value:g}': int(n) for value, n in zip(values, counts, strict=True)}
        if len(values) <= FEW
        else None,
        'ends': int((transitions.mask == 0).sum()),
        'terminations': int(episodes.terminated.sum()),
        'timeouts': int(episodes.truncated.sum()),
        'obs_range': _range(transitions.obs),
        'action_range': _range(transitions.action),
        'notes': [*episodes.notes, *_notes(task, told, success)],
        'fingerprint': _fingerprint(task, transitions),
    }


def _rate(outcomes: np.ndarray) -> float | None:
    """The share of successes among the episodes that tell, of `outcomes` `[E]`.

    None where none tells, or where only successes are told: the others may have failed.
    """
    told = outcomes[outcomes != UNKNOWN]
    if not told.size or (told.size < outcomes.size and told.all()):
        return None
    return float(told.mean())


def _notes(task: Task, told: np.ndarray, success: float | None) -> list[str]:
    """What the user should know besides what the readers noted; `told` `[E]`: of `success`."""
    notes = list(recorded.notes(task))
    if task.tells_success and not told.all():
        notes.append(
            f'success is told in {told.sum():,} of {len(told):,} episodes '
            f'(infos, {" or ".join(SUCCESS)})'
            + (
                ', and never a failure: its rate is not known'
                if told.any() and success is None
                else ''
            )
        )
    return notes + ([task.caveat] if task.caveat else [])


def behaviour(card: Mapping[str, Any]) -> float | str | None:
    """The score of the data's policy for tables; None without one, 'not known' where data fail."""
    unknown = card.get('tells_success') and card['success_rate'] is None
    return NOT_KNOWN if unknown and card['score'] is None else card['score']


def _outcomes(task: Task, episodes: Episodes, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return and success of each episode `[E]`, as if it had been an evaluation episode.

    A success is 1, 0 or `UNKNOWN`.
    """
    returns, success = np.zeros(len(episodes.length)), np.zeros(len(episodes.length), int)
    stops = np.cumsum(episodes.length)
    for index, (length, stop) in enumerate(zip(episodes.length, stops, strict=True)):
        start = stop - length
        rows = slice(start, stop if task.horizon is None else min(stop, start + task.horizon))
        ended = np.flatnonzero(mask[rows] == 0)
        last = ended[0] + 1 if ended.size else None
        returns[index] = episodes.reward[rows][:last].sum()
        success[index] = of_episode(episodes.reached[rows])
    return returns, success


def _moments(values: np.ndarray) -> dict[str, float]:
    """Mean, deviation and range of values."""
    return {name: float(getattr(values, name)()) for name in ('mean', 'std', 'min', 'max')}


def _range(array: Any) -> dict[str, float]:
    """Range of all entries."""
    return {'min': float(array.min()), 'max': float(array.max())}


def _fingerprint(task: Task, transitions: Transition) -> str:
    """SHA-256 of the five columns (bytes, types, shapes) and of the task's way to read them.

    `extra` does not count: it follows from the five.
    """
    digest = hashlib.sha256()
    for name, array in zip(transitions._fields[:5], transitions[:5], strict=True):
        digest.update(f'{name} {array.dtype} {array.shape} '.encode())
        digest.update(np.ascontiguousarray(array).data)
    meaning = [task.goal, task.success_ends, task.obs_keys, task.horizon, task.env_kwargs]
    digest.update(json.dumps(meaning, default=str).encode())
    return digest.hexdigest()


def format_card(card: dict[str, Any]) -> str:
    """A card as a short block of text."""
    lines = [f'  {name:<8} {text}' for name, text in _rows(card).items() if text is not None]
    lines += [f'  {"note":<8} {note}' for note in card['notes']]
    return '\n'.join([f'dataset card: {card["task"]}', *lines])


def _rows(card: dict[str, Any]) -> dict[str, str | None]:
    """The text of each line by its heading; None for a line that the card does not have."""
    spread = '{mean:.4g} ± {std:.4g}, {min:.4g} to {max:.4g}'.format
    span = '{min:.4g} to {max:.4g}'.format
    counts = card['reward_counts']
    rewards = spread(**card['reward'])
    if counts is not None:
        rewards = ', '.join(f'{value}: {count:,}' for value, count in counts.items())
    return {
        'data': f'{" + ".join(card["datasets"])} (source: {card["source"]})',
        'played': card['environment'] and f'in {card["environment"]}',
        'learnt': 'observations minus their mean, divided by their deviation'
        if card.get('normalize_obs')
        else None,
        'size': f'{card["transitions"]:,} transitions, {card["episodes"]:,} episodes',
        'shape': f'observation {card["obs_dim"]}, action {card["action_dim"]} '
        f'in ±{card["max_action"]:g}',
        'return': spread(**card['return']),
        'score': None if card['score'] is None else f'{card["score"]:.1f} (behaviour)',
        'success': _success(card),
        'rewards': f'{rewards} (transform: {card["reward_transform"]})',
        'ends': f'{card["ends"]:,} ends of return, {card["timeouts"]:,} time-outs',
        'ranges': f'observations {span(**card["obs_range"])}, '
        f'actions {span(**card["action_range"])}',
        'sha256': card['fingerprint'][:16],
    }


def _success(card: dict[str, Any]) -> str | None:
    """The text of the line on success."""
    rate = card['success_rate']
    if rate is None:
        return f'{NOT_KNOWN} (behaviour)' if card['tells_success'] else None
    return f'{rate:.2f} of episodes (behaviour), goal: {card["goal"]}'
