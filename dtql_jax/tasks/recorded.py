"""The environment that a Minari set records, made again for an evaluation.

A set is other people's: what it records is read with these rules, and `left_out` tells the rest.

* `render_mode`, and arguments that open windows or make many simulators at once, are left out.
* Wrappers that only watch (`WATCHERS`) and `NormalizeReward` are left out: observations and actions
  stay as they are.
* `NormalizeObservation` is refused: its numbers depend on all that it has seen, and are not in the
  set. So is a wrapper whose arguments were not recorded.
* All other wrappers are kept, in their order. Those that begin anew with each episode (`KEPT`) are
  known; with any other one the environment must repeat an episode under the same seed.
* What the set names as its environment must be one: a class of gymnasium's, or registered.

Worker processes import this module, so it imports no jax.
"""

import contextlib
import copy
import dataclasses
import importlib.util
import json
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator

from dtql_jax.tasks.minari_sets import (
    ID,
    is_folder,
    minari_folder,
    read_metadata,
    unmet_requirements,
)
from dtql_jax.tasks.own_files import is_own
from dtql_jax.tasks.repeats import check_repeats
from dtql_jax.tasks.task import MADE, Task
from dtql_jax.types import UserError, outside

NAMED = 'name one: register_task(Task(..., env_id=...))'
NAME_ONE = 'name another one: register_task(Task(..., env_id=...))'
SHIPPED = ('gymnasium', 'minari', 'stable_baselines3')  # whose wrappers the sets below name
WATCHERS = {
    'RecordEpisodeStatistics', 'RecordVideo', 'HumanRendering', 'RenderCollection', 'AddWhiteNoise',
    'ObstructView', 'PassiveEnvChecker', 'Autoreset', 'AutoResetWrapper', 'DataCollector',
    'Monitor',
}  # fmt: skip
REWARDS = {'NormalizeReward', 'ClipReward', 'TransformReward'}
RUNNING = {'NormalizeObservation', 'NormalizeReward'}  # what they give depends on all episodes
KEPT = {
    'ClipAction', 'RescaleAction', 'DiscretizeAction', 'RepeatAction', 'StickyAction', 'ClipReward',
    'FlattenObservation', 'FilterObservation', 'DtypeObservation', 'RescaleObservation',
    'ReshapeObservation', 'GrayscaleObservation', 'ResizeObservation', 'DiscretizeObservation',
    'FrameStackObservation', 'TimeAwareObservation', 'DelayObservation', 'MaxAndSkipObservation',
    'AddRenderObservation', 'TimeLimit', 'OrderEnforcing',
}  # fmt: skip
VECTORS = ('num_envs', 'vectorization_mode', 'vector_kwargs')  # gymnasium.make_vec leaves them
WINDOWS = ('render', 'renders', 'gui', 'use_gui', 'has_renderer', 'visualize', 'show_gui')


class Recorded(NamedTuple):
    """What a set records of its environment, by this module's rules."""

    spec: EnvSpec  # without wrappers
    wrappers: tuple[WrapperSpec, ...]  # as recorded, in order
    left_out: tuple[str, ...]  # what is not taken over


def played_id(task: Task) -> str:
    """The id of the environment that the task's first dataset records."""
    return _recorded(task).spec.id


def recover(task: Task, kwargs: dict[str, Any], entry: EnvSpec | None = None) -> gym.Env:
    """Makes the evaluation environment that the task's first dataset records.

    Args:
        task: names the set.
        kwargs: arguments of `gymnasium.make`, which take the place of those recorded.
        entry: the registry's of the environment, which this process may not know.

    Raises:
        UserError: the set records none, or none that can be made again by this module's rules.
    """
    recorded = _recorded(task)
    spec, owner = recorded.spec, f'{task.name}: {task.datasets[0]}'
    cure = _cure(task, str(spec.entry_point))
    failed = f'{owner} was recorded in {spec.id}, which cannot be made'
    with outside(failed, cure):
        creator = spec.entry_point
        if isinstance(creator, str):
            creator = load_env_creator(creator)
    registered = entry or gym.registry.get(spec.id)
    known = registered is not None and registered.entry_point == spec.entry_point
    if not known and not (isinstance(creator, type) and issubclass(creator, gym.Env)):
        raise UserError(
            f'{owner} names {spec.entry_point} as its environment {spec.id}, which is neither a '
            f"class of gymnasium's nor registered; import what registers it, or {NAME_ONE}"
        )
    with outside(failed, cure):
        env = gym.make(spec, **kwargs)
    assert env.spec is not None  # gymnasium.make has set it
    prior = len(env.spec.additional_wrappers)  # those that the entry point applies
    strange = False
    for wrapper in recorded.wrappers[prior:]:
        if not _left_out(wrapper):
            env = _wrap(env, wrapper, owner, task)
            strange |= not (_shipped(wrapper) and _short(wrapper) in KEPT)
    if strange and not spec.nondeterministic:
        check_repeats(env, owner, cure)
    return env


def notes(task: Task) -> tuple[str, ...]:
    """What the user should know of the recorded environment that the task is played in."""
    if task.env_id is not None or not _has_set(task):
        return ()
    try:
        if not (specs := _specs(task)):
            return ()
        left_out = _recorded(task).left_out
    except UserError as error:
        return (f'cannot be evaluated: {error}',)
    found = []
    if specs[0].spec.id != specs[-1].spec.id:
        found.append(f'recorded in {specs[0].spec.id}, played in {specs[-1].spec.id}')
    if left_out:
        found.append(f'played without {", ".join(left_out)}, which the data were recorded with')
    unmet = unmet_requirements(read_metadata(task.datasets[0]).get('requirements'))
    if unmet:
        found.append(f'the set asks for {", ".join(unmet)}, which is not what is installed')
    if any(text.startswith('NormalizeReward') for text in left_out):
        found.append("an evaluation's returns are the simulator's own, the data's are normalised")
    return tuple(found)


def other_simulator(name: str, task: Task) -> tuple[str, ...]:
    """Notes where the set `name` was recorded in another simulator than `task.env_id`."""
    text, played = read_metadata(name).get('env_spec'), (task.env_id or '').rpartition(':')[2]
    if not text or not played:
        return ()
    try:
        recorded = _parsed(name, text)
    except UserError:
        return ()  # it is not played
    if recorded.spec.id != played:
        return (
            f'recorded in {recorded.spec.id}, played in {played}: another simulator may be another '
            'task (docs/data.md)',
        )
    through = ', '.join(map(_short, _essential(recorded)))
    return (f'recorded through {through}, played in {played} as registered',) if through else ()


def _has_set(task: Task) -> bool:
    """Whether the task's first dataset is a Minari set that is there."""
    if not task.has_env or task.source == MADE or '://' in task.datasets[0]:
        return False
    return is_folder(minari_folder(task.datasets[0]) / 'data')


def _recorded(task: Task) -> Recorded:
    """What the task's first dataset records. Raises UserError where that cannot be used."""
    if not task.datasets or task.source == 'arrays':
        raise UserError(
            f'{task.name}: it has no environment, and no dataset that records one; {NAMED}'
        )
    name = task.datasets[0]
    if is_own(name) or '://' in name:
        raise UserError(f'{task.name}: {name} records no environment; {NAMED}')
    if not _has_set(task):
        cure = f'run: minari download {name}' if ID.fullmatch(name) else 'mend the path'
        raise UserError(f'{task.name}: {minari_folder(name)} is absent; {cure}')
    specs, owner = _specs(task), f'{task.name}: {name}'
    if not specs:
        raise UserError(f'{owner} records no environment; {NAMED}')
    played, collected = specs[-1], specs[0]
    for wrapper in played.wrappers:
        _check_wrapper(owner, wrapper)
    lost = [w for w in _essential(collected) if w not in _essential(played)]
    if lost:
        raise UserError(
            f'{owner} was recorded through {_short(lost[0])}, and is to be evaluated without it '
            f'(eval_env_spec): the policy would meet other observations or actions; {NAME_ONE}'
        )
    return played


def _specs(task: Task) -> list[Recorded]:
    """The environments that the task's first dataset records, the one to be played in last."""
    name = task.datasets[0]
    metadata = read_metadata(name)
    return [
        _parsed(f'{task.name}: {name}, field {field} of metadata.json', metadata[field])
        for field in ('env_spec', 'eval_env_spec')
        if metadata.get(field) not in (None, '', 'null')
    ]


def _parsed(where: str, text: Any) -> Recorded:
    """A recorded spec from JSON, without what opens windows or belongs to other versions."""
    with outside(f'{where} cannot be read', NAME_ONE):
        record = dict(json.loads(text) if isinstance(text, str) else text)
        wrappers = tuple(WrapperSpec(**w) for w in record.pop('additional_wrappers', None) or ())
        kwargs = dict(record.pop('kwargs', None) or {})
        fields = {f.name: f.init for f in dataclasses.fields(EnvSpec)}
        left_out = [f'{k}={v}' for k, v in record.items() if k not in fields and v]
        spec = EnvSpec(**{k: v for k, v in record.items() if fields.get(k)})
    if record.get('apply_api_compatibility'):
        raise UserError(f'{where} is an environment of the old gym, not of gymnasium; {NAME_ONE}')
    if spec.entry_point is None and spec.id in gym.registry:
        spec.entry_point = gym.registry[spec.id].entry_point
    limit = spec.max_episode_steps
    spec.max_episode_steps = limit if isinstance(limit, int) and limit > 0 else None
    mode = kwargs.pop('render_mode', None)
    if mode is not None:
        left_out.append(f'render_mode={mode!r}')
    left_out += [f'{key}={kwargs.pop(key)}' for key in VECTORS if key in kwargs]
    for key in WINDOWS:
        if kwargs.get(key) is True:
            kwargs[key] = False
            left_out.append(f'{key}=True')
    if any(_short(w) in ('AddRenderObservation', 'PixelObservationWrapper') for w in wrappers):
        kwargs['render_mode'] = 'rgb_array'
    spec.kwargs = kwargs
    return Recorded(spec, wrappers, (*left_out, *(_short(w) for w in wrappers if _left_out(w))))


def _short(wrapper: WrapperSpec) -> str:
    """The name of a wrapper's class."""
    return str(wrapper.entry_point).rpartition(':')[2] or str(wrapper.name)


def _shipped(wrapper: WrapperSpec) -> bool:
    return str(wrapper.entry_point).partition(':')[0].partition('.')[0] in SHIPPED


def _left_out(wrapper: WrapperSpec) -> bool:
    return _shipped(wrapper) and _short(wrapper) in WATCHERS | {'NormalizeReward'}


def _essential(recorded: Recorded) -> list[tuple[str, Any]]:
    """Shipped wrappers that change observations or actions, as far as a policy can tell."""
    return [
        w
        for w in recorded.wrappers
        if _shipped(w) and not _left_out(w) and _short(w) not in REWARDS | {'ClipAction'}
    ]


def _check_wrapper(owner: str, wrapper: WrapperSpec) -> None:
    """Raises UserError for a recorded wrapper that cannot be made again."""
    if _left_out(wrapper):
        return
    if _shipped(wrapper) and _short(wrapper) in RUNNING:
        raise UserError(
            f'{owner} was recorded through {_short(wrapper)}, whose numbers depend on all that it '
            'has seen and are not in the set; record without it, or register an environment with '
            'those observations and name it: register_task(Task(..., env_id=...))'
        )
    if wrapper.kwargs is None:
        raise UserError(
            f'{owner} was recorded through {wrapper.entry_point} without its arguments (no '
            'gymnasium.utils.RecordConstructorArgs), so that it cannot be made again; register an '
            'environment with it and name it: register_task(Task(..., env_id=...))'
        )


def _wrap(env: gym.Env, wrapper: WrapperSpec, owner: str, task: Task) -> gym.Env:
    """`env` in a recorded wrapper."""
    point = str(wrapper.entry_point)
    failed = f'{owner} was recorded through {point}, which cannot be made'
    cure = _cure(task, point)
    with outside(failed, cure):
        maker = load_env_creator(point)
    if not (isinstance(maker, type) and issubclass(maker, gym.Wrapper)):
        raise UserError(f'{owner} names {point} as a wrapper, which it is not; {NAME_ONE}')
    with outside(failed, cure):
        kwargs = copy.deepcopy(wrapper.kwargs or {})
        if isinstance(kwargs.get('shape'), list):  # JSON has no tuples, on which gymnasium insists
            kwargs['shape'] = tuple(kwargs['shape'])
        return maker(env=env, **kwargs)


def _cure(task: Task, point: str) -> str:
    """What helps where a recorded class cannot be made: the packages that the set asks for."""
    unmet = unmet_requirements(read_metadata(task.datasets[0]).get('requirements'))
    if unmet:
        return f'the set asks for: pip install {" ".join(unmet)}'
    root = point.partition(':')[0].partition('.')[0]
    found = None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        found = importlib.util.find_spec(root)
    if found is None:
        return f'install the package that has the module {root}, or {NAME_ONE}'
    return NAME_ONE
