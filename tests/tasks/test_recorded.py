"""Environments that sets record: what is kept, what is left out, and what is refused."""

import functools

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import wrappers as W

from dtql_jax.data.load import load
from dtql_jax.tasks.env import env_maker, make_env
from dtql_jax.tasks.registry import resolve
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers import recorded_sets as sets
from tests.helpers.recorded_sets import NAME, mend, mend_spec, record
from tests.helpers.rollouts import init
from tests.helpers.rollouts import run as play

TASK = Task('own', (NAME,))
CLEAN = {
    'rescaled': (functools.partial(W.RescaleAction, min_action=-0.5, max_action=0.5),),
    'stacked': (functools.partial(W.FrameStackObservation, stack_size=3), W.FlattenObservation),
    'timed': (W.TimeAwareObservation,),
    'sticky': (functools.partial(W.StickyAction, repeat_action_probability=0.5),),
    'halved by a wrapper of the user': (sets.Halving,),
    'rewards normalised': (W.NormalizeReward,),
    'reshaped': (functools.partial(W.ReshapeObservation, shape=(3, 1)),),
    'watched': (W.RecordEpisodeStatistics, W.FlattenObservation),
}


def act(params, obs, key):
    """A policy that compiles quickly."""
    return jnp.tanh(jnp.tanh(obs @ params[0]) @ params[1])


def refused(task=TASK, **kwargs):
    """The one line that making the environment raises."""
    with pytest.raises(UserError) as caught:
        make_env(task, **kwargs)
    text = str(caught.value)
    assert '\n' not in text
    return text


def wrappers_of(env):
    """The names of an environment's wrappers, outside first."""
    names = []
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return names


# Each compiles a policy.
QUICK = ('stacked', 'rewards normalised')
CASES = [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CLEAN]


@pytest.mark.parametrize('case', CASES)
def test_recover__the_result_is_the_same_with_one_and_many_simulators(root, case):
    record(*CLEAN[case], horizon=8)
    data = load(TASK)
    env = make_env(TASK)
    assert env.observation_space.shape == (data.spec.obs_dim,)
    params = init(data.spec.obs_dim, 1)
    one, three, again = (
        play(functools.partial(make_env, TASK), slots=slots, params=params, act=act)
        for slots in (1, 3, 3)
    )
    for field in ('returns', 'length'):
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))
        np.testing.assert_array_equal(getattr(three, field), getattr(again, field))


def test_recover__normalised_observations_are_refused_and_the_cure_works(root, monkeypatch):
    record(W.NormalizeObservation)
    text = refused()
    assert text.startswith(f'own: {NAME} was recorded through NormalizeObservation, whose numbers')
    assert text.endswith('and name it: register_task(Task(..., env_id=...))')
    card = load(TASK).card  # the data can be read, and say it
    assert any('cannot be evaluated: own' in note for note in card['notes'])
    monkeypatch.setitem(gym.registry, 'Mine-v0', gym.spec('Pendulum-v1'))
    own = Task('own', (NAME,), env_id='Mine-v0')
    assert make_env(own).observation_space.shape == (3,)
    notes = load(own).card['notes']
    assert any('recorded in Pendulum-v1, played in Mine-v0' in note for note in notes)
    same = load(Task('own', (NAME,), env_id='Pendulum-v1')).card['notes']
    assert 'recorded through NormalizeObservation, played in Pendulum-v1 as registered' in same


def test_recover__what_only_watches_is_left_out_and_named(root):
    record(W.NormalizeReward, W.RecordEpisodeStatistics, W.FlattenObservation)
    spec = make_env(TASK).spec
    assert [w.name for w in spec.additional_wrappers][:1] == ['FlattenObservation']
    notes = load(TASK).card['notes']
    assert notes[0] == (
        'played without NormalizeReward, RecordEpisodeStatistics, which the data were recorded with'
    )
    assert notes[1].startswith("an evaluation's returns are the simulator's own")


@pytest.mark.parametrize(
    ('name', 'point'),
    [
        ('RecordVideo', 'gymnasium.wrappers.rendering:RecordVideo'),
        ('RecordVideo', 'gymnasium.wrappers.record_video:RecordVideo'),  # of gymnasium 0.29
        ('HumanRendering', 'gymnasium.wrappers.rendering:HumanRendering'),
        ('Autoreset', 'gymnasium.wrappers.common:Autoreset'),
        ('Monitor', 'stable_baselines3.common.monitor:Monitor'),
        ('DataCollector', 'minari.data_collector.data_collector:DataCollector'),
    ],
)
def test_recover__watchers_need_no_package_and_no_arguments(root, name, point):
    record()
    mend_spec(additional_wrappers=[{'name': name, 'entry_point': point, 'kwargs': None}])
    assert name not in wrappers_of(make_env(TASK))
    assert load(TASK).card['notes'][0] == (
        f'played without {name}, which the data were recorded with'
    )


def test_recover__windows_stay_shut(line):
    record(env=line)
    mend_spec(kwargs={'render_mode': 'human', 'gui': True, 'step': 0.5})
    env = make_env(TASK)
    assert (env.unwrapped.render_mode, env.unwrapped.stride) == (None, 0.5)
    assert load(TASK).card['notes'][0] == (
        "played without render_mode='human', gui=True, which the data were recorded with"
    )
    assert make_env(TASK, render_mode='rgb_array').unwrapped.render_mode == 'rgb_array'


def test_recover__a_state_of_the_users_own_wrapper_is_found(line):
    record(sets.Counting, env=line)
    assert 'through wrappers with a state that outlives an episode' in refused()
    mend_spec(additional_wrappers=[])
    assert make_env(TASK).reset(seed=0)[0].shape == (2,)


def test_recover__a_wrapper_without_recorded_arguments_is_refused(line):
    record(sets.Plain, env=line)
    assert 'through tests.helpers.recorded_sets:Plain without its arguments' in refused()


@pytest.mark.parametrize(
    ('point', 'expected'),
    [
        ('no_such_package.wrappers:Mine', 'install the package that has the module no_such_packag'),
        ('tests.helpers.recorded_sets:Gone', "has no attribute 'Gone'; name another one"),
        ('gymnasium.wrappers.frame_stack:FrameStack', 'which cannot be made: ModuleNotFoundError'),
        ('os:system', 'names os:system as a wrapper, which it is not'),
        ('nonsense', 'nonsense, which cannot be made'),
    ],
)
def test_recover__a_wrapper_that_is_not_there(root, point, expected):
    record()
    wrapper = {'name': 'Mine', 'entry_point': point, 'kwargs': {}}
    mend_spec(additional_wrappers=[wrapper])
    assert expected in refused()
    mend_spec(additional_wrappers=[])
    assert make_env(TASK).reset(seed=0)[0].shape == (3,)


def test_recover__wrappers_keep_their_order(root):
    first = functools.partial(W.RescaleAction, min_action=-1, max_action=1)
    record(first, W.TimeAwareObservation, W.RecordEpisodeStatistics, W.FlattenObservation)
    assert wrappers_of(make_env(TASK))[1:4] == [
        'FlattenObservation', 'TimeAwareObservation', 'RescaleAction',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'kwargs': {'no_such': 1}}, "unexpected keyword argument 'no_such'"),
        ({'entry_point': 'no_such_package:Env'}, 'install the package that has the module no_su'),
        (
            {'entry_point': 'gymnasium.envs.mujoco.gone:Env'},
            "No module named 'gymnasium.envs.mujoco.gone'; nam",
        ),
        ({'entry_point': 'os:system', 'kwargs': {'command': 'touch x'}}, 'neither a class of gymn'),
        ({'entry_point': 'collections:OrderedDict'}, "neither a class of gymnasium's nor reg"),
        ({'entry_point': None, 'id': 'Gone-v0'}, 'names None as its environment Gone-v0, which'),
        (
            {'id': 'Hopper-v2', 'entry_point': 'gymnasium.envs.mujoco:HopperEnv'},
            'was recorded in Hopper-v2, which cannot be made',
        ),
        ({'id': 'no good id!'}, 'cannot be read: Error: Malformed environment ID'),
        ({'additional_wrappers': [{'name': 'x'}]}, 'cannot be read: TypeError'),
        ({'max_episode_steps': None}, "set a horizon: register_task(Task(..., datasets=('me/re"),
        ({'max_episode_steps': -1}, 'never ends; set a horizon'),
        ({'apply_api_compatibility': True}, 'of the old gym, not of gymnasium'),
    ],
)
def test_recover__a_recorded_environment_that_cannot_be_made(root, changes, expected):
    record()
    mend_spec(**changes)
    assert expected in refused()


def test_recover__a_model_that_is_absent(root):
    record()
    mend_spec(
        id='Hopper-v5',
        entry_point='gymnasium.envs.mujoco.hopper_v5:HopperEnv',
        kwargs={'xml_file': '/no/such.xml'},
    )
    assert '/no/such.xml' in refused()


@pytest.mark.parametrize('text', ['{"id": ', '[1, 2]', '7', '{}'])
def test_recover__a_broken_spec_is_one_line_and_the_data_stay_readable(root, text):
    record()
    mend(env_spec=text)
    assert f'{NAME}, field env_spec of metadata.json cannot be read' in refused()
    assert load(TASK).card['episodes'] == 3


@pytest.mark.parametrize('text', [None, '', 'null'])
def test_recover__a_set_without_a_spec(root, text):
    record()
    mend(env_spec=text)
    assert refused() == (
        f'own: {NAME} records no environment; name one: register_task(Task(..., env_id=...))'
    )


def test_recover__fields_of_other_versions_of_gymnasium(root):
    record()
    mend_spec(autoreset=True, apply_api_compatibility=False, some_new_field=None)
    assert make_env(TASK).reset(seed=0)[0].shape == (3,)
    assert 'played without autoreset=True' in load(TASK).card['notes'][0]


def test_recover__the_sets_own_requirements_are_proposed(root):
    record()
    mend_spec(entry_point='no_such_package:Env')
    mend(requirements=['no-such-dist>=2', 'numpy', 'gymnasium<0.1', 'not a requirement !', 7])
    assert refused().endswith('the set asks for: pip install "no-such-dist>=2" "gymnasium<0.1"')


def test_recover__a_module_that_raises_at_import(root, tmp_path, monkeypatch):
    (tmp_path / 'raising_module.py').write_text('raise RuntimeError("two\\nlines")')
    monkeypatch.syspath_prepend(tmp_path)
    record()
    mend_spec(entry_point='raising_module:Env')
    assert 'which cannot be made: RuntimeError: two lines; name another one' in refused()


def test_recover__the_evaluation_environment_counts_unless_it_lacks_a_wrapper(root):
    record(W.NormalizeObservation)
    mend_spec(field='eval_env_spec', additional_wrappers=[])
    assert 'recorded through NormalizeObservation, and is to be evaluated without it' in refused()
    record(name='me/other-v0')
    mend_spec('me/other-v0', 'eval_env_spec', max_episode_steps=7)
    assert make_env(Task('own', ('me/other-v0',))).spec.max_episode_steps == 7


def test_recover__what_make_vec_records_is_left_out(root):
    record()
    mend_spec(kwargs={'num_envs': 4, 'vectorization_mode': 'sync'})
    assert make_env(TASK).reset(seed=0)[0].shape == (3,)
    assert 'played without num_envs=4, vectorization_mode=sync' in load(TASK).card['notes'][0]


def test_recover__a_wrapper_for_many_simulators_is_refused(root):
    record()
    for name, expected in (('RescaleAction', 'which it is not'), ('NormalizeObservation', 'whose')):
        point = f'gymnasium.wrappers.vector:{name}'
        mend_spec(additional_wrappers=[{'name': name, 'entry_point': point, 'kwargs': {}}])
        assert expected in refused()


def test_notes__other_packages_than_the_set_asks_for(root):
    record()
    mend(requirements=['gymnasium<0.1', 'numpy'])
    assert load(TASK).card['notes'] == [
        'the set asks for "gymnasium<0.1", which is not what is installed'
    ]


def test_notes__another_environment_for_the_evaluation(root):
    record()
    mend_spec(field='eval_env_spec', id='Pendulum9-v1')
    assert load(TASK).card['notes'] == ['recorded in Pendulum-v1, played in Pendulum9-v1']


def make_line(**kwargs):
    """A maker of environments, which is no class."""
    return sets.Line(**kwargs)


def test_recover__a_maker_that_is_registered_also_where_workers_lack_it(root):
    point = 'tests.tasks.test_recorded:make_line'
    record()
    mend_spec(id='Made-v0', entry_point=point)
    assert "neither a class of gymnasium's nor registered; import what registers it" in refused()
    gym.register('Made-v0', point)
    maker = env_maker(TASK)
    assert isinstance(make_env(TASK).unwrapped, sets.Line)
    del gym.registry['Made-v0']
    assert isinstance(maker().unwrapped, sets.Line)


def test_recover__a_folder_by_a_relative_path_after_a_change_of_directory(root, monkeypatch):
    record()
    (root / 'my sets').mkdir()
    (root / 'me').rename(root / 'my sets' / 'me')
    monkeypatch.chdir(root / 'my sets')
    task, _ = resolve('minari:me/recorded-v0')
    monkeypatch.chdir('/')
    assert task.datasets == (str(root / 'my sets/me/recorded-v0'),)
    assert make_env(task).spec.id == 'Pendulum-v1'
    assert load(task).card['episodes'] == 3
