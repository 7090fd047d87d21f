"""Minari sets whose spaces, environments and files are not as usual."""

import functools
import json
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tools.campaign import toys
from tools.campaign.accidents import Outcome, Place, accident, check, either, expect
from tools.campaign.processes import Ended

NAME = 'me/walk-v0'


def write(
    folder: pathlib.Path,
    bound: float = 1.0,
    spec: Callable[[Any], Any] | None = None,
    action: Any = None,
    infos: dict[str, Any] | None = None,
) -> int:
    """Writes a set of twenty episodes of `toys.Walk` into a Minari root; for a child.

    Args:
        folder: the root.
        bound: of the recorded action box.
        spec: changes the recorded environment.
        action: another recorded action space.
        infos: what each step tells, as constants.
    """
    import os

    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    os.environ['MINARI_DATASETS_PATH'] = str(folder)
    folder.mkdir(exist_ok=True)
    action = action or gym.spaces.Box(-bound, bound, (2,), np.float32)
    rng, episodes = np.random.default_rng(0), []
    for _ in range(20):
        low, high = np.clip(action.low, -1, None), np.clip(action.high, None, 1)
        shape = (toys.STEPS, *action.shape)
        last = np.arange(toys.STEPS) == toys.STEPS - 1
        told = {k: np.full(toys.STEPS + 1, v) for k, v in (infos or {}).items()}
        episodes.append(
            EpisodeBuffer(
                observations=rng.normal(size=(toys.STEPS + 1, 2)).astype(np.float32),
                actions=rng.uniform(low, high, shape).astype(action.dtype),
                rewards=rng.normal(size=toys.STEPS),
                terminations=last & False,
                truncations=last,
                infos=told,
            )
        )
    recorded = gym.spec('campaign/Walk-v0')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        minari.create_dataset_from_buffers(
            NAME, episodes, env=recorded, observation_space=toys.Walk.observation_space,
            action_space=action,
        )  # fmt: skip
    if spec:  # minari would make the environment, which other machines cannot
        path = folder / NAME / 'data' / 'metadata.json'
        content = json.loads(path.read_text()) | {'env_spec': spec(recorded).to_json()}
        path.write_text(json.dumps(content))
    return 0


def trained(
    place: Place, *flags: str, before: Callable[[], None] | None = None, **set_up: Any
) -> Ended:
    """A short run on a set that was written like that, after `before`."""
    root = place.folder / 'sets'
    made = place.call(functools.partial(write, root, **set_up))
    if made.verdict != 'done':
        raise RuntimeError(made.err)
    variables = {'MINARI_DATASETS_PATH': str(root)}
    return place.train(f'--env=minari:{NAME}', *flags, variables=variables, before=before)


def wrapped(*wrappers: tuple[str, str, dict]) -> Callable[[Any], Any]:
    """A change of a recorded environment that adds wrappers: name, entry point and arguments."""

    def change(spec: Any) -> Any:
        import dataclasses

        from gymnasium.envs.registration import WrapperSpec

        found = tuple(WrapperSpec(*wrapper) for wrapper in wrappers)
        return dataclasses.replace(spec, additional_wrappers=found)

    return change


def stateful(place: Place, name: str, arguments: dict) -> Outcome:
    """A set recorded through a wrapper with state is refused, or what was left out is said."""
    spec = wrapped((name, f'gymnasium.wrappers:{name}', arguments))
    ended = trained(place, spec=spec)
    return either(ended, name)


@accident
def plain_set(place: Place) -> Outcome:
    """A set with nothing special trains (a control)."""
    return expect(trained(place), 'done')


@accident
def recorded_NormalizeObservation(place: Place) -> Outcome:
    """A set recorded through NormalizeObservation."""
    return stateful(place, 'NormalizeObservation', {'epsilon': 1e-8})


@accident
def recorded_NormalizeReward(place: Place) -> Outcome:
    """A set recorded through NormalizeReward."""
    return stateful(place, 'NormalizeReward', {'gamma': 0.99, 'epsilon': 1e-8})


@accident
def recorded_RecordVideo(place: Place) -> Outcome:
    """A set recorded through RecordVideo, which opens windows or writes files."""
    ended = stateful(place, 'RecordVideo', {'video_folder': str(place.folder / 'films')})
    return check(ended, (not (place.folder / 'films').exists(), 'films were written'))


@accident
def recorded_wrapper_not_installed(place: Place) -> Outcome:
    """A set recorded through a wrapper that is not installed (SB3's Monitor)."""
    spec = wrapped(('Monitor', 'stable_baselines3.common.monitor:Monitor', {}))
    ended = trained(place, spec=spec)
    return either(ended, 'Monitor')


def with_entry(entry: str, **kwargs: Any) -> Callable[[Any], Any]:
    """A change of a recorded environment: another entry point and arguments."""

    def change(spec: Any) -> Any:
        import copy

        spec = copy.deepcopy(spec)
        spec.entry_point, spec.kwargs = entry, kwargs
        return spec

    return change


@accident
def recorded_class_not_installed(place: Place) -> Outcome:
    """A set whose environment is a class of a package that is not installed."""
    return expect(trained(place, spec=with_entry('nowhere.envs:Walk')), 'refused', 'nowhere')


@accident
def recorded_class_gone(place: Place) -> Outcome:
    """A set whose environment is a class that its module no longer has."""
    return expect(trained(place, spec=with_entry('tools.campaign.toys:Gone')), 'refused', 'Gone')


@accident
def recorded_keyword_unknown(place: Place) -> Outcome:
    """A set whose environment was made with a keyword that it no longer has."""
    entry = 'tools.campaign.toys:Walk'
    return expect(trained(place, spec=with_entry(entry, colour=3)), 'refused', 'colour')


@accident
def smaller_action_box(place: Place) -> Outcome:
    """Recorded with actions in ±1 and played in a simulator of ±2: refused."""
    env = 'minari:me/walk-v0'
    spec = with_entry('tools.campaign.toys:Wide')
    ended = trained(place, f'--env={env}', spec=spec)
    return expect(ended, 'refused', 'action')


@accident
def action_box_without_shape(place: Place) -> Outcome:
    """Recorded actions of shape (), one number, where the simulator takes two."""
    import gymnasium as gym

    space = gym.spaces.Box(-1, 1, (), np.float32)
    return expect(trained(place, action=space), 'refused', 'action size')


@accident
def action_box_of_two_axes(place: Place) -> Outcome:
    """Recorded actions of shape (1, 2): the two numbers that the simulator takes."""
    import gymnasium as gym

    space = gym.spaces.Box(-1, 1, (1, 2), np.float32)
    return expect(trained(place, action=space), 'done')


@accident
def infinite_action_box(place: Place) -> Outcome:
    """Recorded actions without bounds: those of the simulator hold."""
    import gymnasium as gym

    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return expect(trained(place, action=space), 'done')


@accident
def success_in_infos(place: Place) -> Outcome:
    """A set whose infos say success: the behaviour's success is not printed as 0.00."""

    def register() -> None:
        from dtql_jax.tasks.registry import register_task
        from dtql_jax.tasks.task import Task

        register_task(Task('own', (NAME,), scored='success'))

    ended = trained(place, '--env=own', '--dry_run', infos={'success': True}, before=register)
    zero = re.search(r'(success|score|behaviour).* 0\.0', ended.out)
    return check(expect(ended, 'done'), (not zero, f'a success of 0 is printed: {zero}'))


def changed_metadata(place: Place, change: Callable[[pathlib.Path], None], **options) -> Ended:
    """A run on a set one of whose files was changed."""
    root = place.folder / 'sets'
    place.call(functools.partial(write, root))
    change(root / 'me' / 'walk-v0' / 'data')
    variables = {'MINARI_DATASETS_PATH': str(root)}
    return place.train(f'--env=minari:{NAME}', variables=variables, **options)


def not_removed(ended: Ended, *words: str) -> Outcome:
    """Refused, and the advice is not to remove the data."""
    kept = 'remove' not in ended.last and 'truncated' not in ended.last
    return check(expect(ended, 'refused', *words), (kept, 'it advises to remove the data'))


@accident
def newer_minari(place: Place) -> Outcome:
    """A set that a newer Minari wrote."""

    def change(data: pathlib.Path) -> None:
        path = data / 'metadata.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | {'minari_version': '99.0.0'}))

    return not_removed(changed_metadata(place, change), '99.0.0')


@accident
def set_forbidden(place: Place) -> Outcome:
    """A set that one may not read."""
    ended = changed_metadata(place, lambda data: (data / 'main_data.hdf5').chmod(0), obeying=True)
    return not_removed(ended, 'permission')


@accident
def set_held_open(place: Place) -> Outcome:
    """A set that another process holds open for writing."""
    import time

    import h5py

    holders = []

    def change(data: pathlib.Path) -> None:
        def hold() -> int:
            with h5py.File(data / 'main_data.hdf5', 'a'):
                time.sleep(30)
            return 0

        holders.append(place.start(hold))
        time.sleep(1)

    ended = changed_metadata(place, change)
    holders[0].send(9)
    holders[0].wait()
    return not_removed(ended)


@accident
def set_truncated(place: Place) -> Outcome:
    """A set whose file is cut short."""

    def change(data: pathlib.Path) -> None:
        path = data / 'main_data.hdf5'
        path.write_bytes(path.read_bytes()[:3000])

    return expect(changed_metadata(place, change), 'refused', 'me/walk-v0', 'truncated')


@accident
def set_of_other_metadata(place: Place) -> Outcome:
    """A set whose metadata.json is an empty object."""

    def change(data: pathlib.Path) -> None:
        (data / 'metadata.json').write_text('{}')

    return expect(changed_metadata(place, change), 'refused', 'me/walk-v0')
