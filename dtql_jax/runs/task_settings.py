"""What a run may ask of its task: other settings, and whether it is evaluated."""

import dataclasses

from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.settings import Settings, setting
from dtql_jax.data.columns import ONLINE
from dtql_jax.tasks import task
from dtql_jax.types import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """The settings of a task."""

    goal: str | None = setting(None, 'what the goal of a maze is', choices=task.GOALS)
    success_ends: bool | None = setting(None, 'whether the return ends at the goal of a maze')
    success_timing: str | None = setting(
        None, 'whether OGBench judges success before or after the action', choices=task.TIMINGS
    )
    rescale_actions: bool | None = setting(
        None, "whether the data's action box is stretched to the simulator's"
    )
    actions: str | None = setting(
        None,
        'what becomes of actions outside of the box; rescale: their range in the data is the box',
        choices=task.ACTIONS,
    )
    normalize_obs: bool | None = setting(
        None, 'whether agents see observations minus their mean, divided by their deviation'
    )


def episodes_of(found: task.Task, asked: int | None, dataset_path: str | None) -> int:
    """The episodes of an evaluation; 0 where there is none, as without an environment.

    Args:
        found: the task.
        asked: what the user asks for; None for the task's own number.
        dataset_path: the data in place of the task's, which may record an environment.

    Raises:
        UserError: they are asked for, and there is no environment.
    """
    if dataset_path is not None:
        found = dataclasses.replace(found, datasets=(dataset_path,))
    if found.has_env:
        return found.eval_episodes if asked is None else asked
    if asked:
        raise UserError(
            f'`eval_episodes`={asked}: {found.name} has no environment to play in: leave it out, '
            'or name one: register_task(Task(..., env_id=...))'
        )
    return 0


def check_online(
    found: task.Task, agent: type[Agent], config: Config, dataset_path: str | None
) -> None:
    """Raises UserError where a run is to go on in the environment and cannot.

    Args:
        found: the task.
        agent: the class of the agent.
        config: its settings.
        dataset_path: the data in place of the task's, which may record an environment.
    """
    if not config.online_steps:
        return
    asked = f'`online_steps`={config.online_steps}'
    if dataset_path is not None:
        found = dataclasses.replace(found, datasets=(dataset_path,))
    if not found.has_env:
        raise UserError(
            f'{asked}: {found.name} has no environment to go on in: leave it out, or name one: '
            'register_task(Task(..., env_id=...))'
        )
    if config.horizon_length > 1:
        raise UserError(
            f'{asked}: new rows are single rows, no chunks of `horizon_length`='
            f'{config.horizon_length}: leave one of the two out'
        )
    reason = agent.offline_only
    if unknown := [name for name in agent.columns if name not in ONLINE]:
        reason = f'its column {unknown[0]!r} is not known of a new row'
    if reason is not None:
        raise UserError(
            f'{asked}: {agent.__name__} cannot go on in the environment, as {reason}: leave it '
            'out, or name another `agent`'
        )
