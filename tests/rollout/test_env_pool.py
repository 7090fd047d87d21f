import functools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from dtql_jax.rollout.env_pool import EnvPool, choose_workers
from dtql_jax.rollout.worker import WorkerLost
from dtql_jax.types import UserError
from tests.helpers.fake_env import Broken, Slow, Unbuildable, Walk

ROOT = Path(__file__).parents[2]

make_pendulum = functools.partial(gymnasium.make, 'InvertedPendulum-v5')


def play(make_env, workers, num_envs=5, steps=4):
    """The arrays of a few steps of ever-changing subsets of the slots."""
    seen = []
    with EnvPool(make_env, num_envs, workers) as pool:
        slots = list(range(num_envs))
        seen.append(pool.reset(slots, [10 + slot for slot in slots]).obs)
        for t in range(steps):
            some = slots[t % 2 :][::-1]
            actions = np.linspace(-0.1, 0.1, len(some), dtype=np.float32)[:, None]
            seen.extend(pool.step(some, np.repeat(actions, 2 - (make_env is not Walk), axis=1)))
            if t == 1:
                seen.append(pool.reset([3, 1], [7, 8]).obs)
    return seen


@pytest.mark.parametrize('make_env', [make_pendulum, Walk])
def test_EnvPool__workers_give_the_same_arrays_as_one_process(make_env):
    alone, shared = play(make_env, 0), play(make_env, 2)
    for a, b in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize('workers', [0, 1])
def test_EnvPool__answers_keep_the_order_of_the_slots(workers):
    with EnvPool(Walk, 3, workers) as pool:
        starts = pool.reset([0, 1, 2], [5, 6, 7]).obs
        np.testing.assert_array_equal(pool.reset([2, 0], [5, 7]).obs, starts[[0, 2]])
        assert starts.dtype == np.float32
        assert starts.shape == (3, 2)


def test_EnvPool__steps_agree_with_the_environment_itself():
    env = Walk()
    first, _ = env.reset(seed=3)
    obs, reward, terminated, truncated, info = env.step(np.array([0.5, 0.5], np.float32))
    with EnvPool(Walk, 2) as pool:
        assert np.array_equal(pool.reset([1], [3]).obs[0], first.astype(np.float32))
        steps = pool.step([1], np.array([[0.5, 0.5]], np.float32))
    np.testing.assert_array_equal(steps.obs[0], obs.astype(np.float32))
    assert steps.reward[0] == reward
    flags = (steps.terminated[0], steps.truncated[0], steps.success[0])
    assert flags == (terminated, truncated, info['success'])


@pytest.mark.parametrize('workers', [0, 2])
def test_EnvPool__an_environment_that_raises_costs_only_its_own_row(workers):
    with EnvPool(Broken, 3, workers) as pool, EnvPool(Broken, 3) as whole:
        for each in (pool, whole):
            each.reset([0, 1, 2], [0, 1, 2])
        steps = pool.step([0, 2], np.array([[0, 0], [1.5, 0]]))
        assert list(steps.failure) == ['', 'its step failed: ValueError: the joint broke']
        assert np.isnan(steps.obs[1]).all()
        assert np.array_equal(steps.obs[0], whole.step([0], np.zeros((1, 2))).obs[0])
        again = pool.reset([2, 1], [5, 6])  # a new environment in the slot of the broken one
        assert list(again.failure) == ['', '']
        assert np.array_equal(again.obs, whole.reset([2, 1], [5, 6]).obs)


@pytest.mark.parametrize('workers', [0, 2])
def test_EnvPool__names_an_environment_that_cannot_be_made(workers):
    with pytest.raises(UserError, match=r'cannot be made: OSError: no such model file; mend it'):
        EnvPool(Unbuildable, 2, workers)
    assert not multiprocessing.active_children()


def test_EnvPool__reports_a_dead_worker_and_leaves_none():
    pool = EnvPool(Broken, 4, 2)
    pool.reset([0, 3], [0, 3])
    assert len(multiprocessing.active_children()) == 2
    with pytest.raises(WorkerLost, match=r'worker died \(exit code 3\)'):
        pool.step([0, 3], np.array([[2.5, 0], [0, 0]]))
    assert not multiprocessing.active_children()
    with pytest.raises(RuntimeError, match='closed'):
        pool.reset([0], [0])
    pool.restart()
    assert len(pool.reset([0, 3], [0, 3]).obs) == 2
    pool.close()


def test_EnvPool__workers_ignore_the_signals_of_the_process_group():
    with EnvPool(Walk, 2, 2) as pool:
        for worker in multiprocessing.active_children():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(worker.pid, number)
        assert len(pool.reset([0, 1], [0, 1]).obs) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('kill', [True, False])
def test_EnvPool__workers_end_with_their_parent_however_it_ends(kill):
    script = (
        'import sys\n'
        'from tests.helpers.fake_env import Walk\n'
        'from dtql_jax.rollout.env_pool import EnvPool\n'
        'pool = EnvPool(Walk, 2, 2)\n'
        'pool.reset([0, 1], [0, 1])\n'
        'print("ready", flush=True)\n'
        'sys.stdin.readline()\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as parent:
        assert parent.stdout.readline() == 'ready\n'
        if kill:
            parent.kill()
        # The workers share this output, so it ends only when the last of them does.
        parent.communicate('\n', timeout=10)


def test_EnvPool__refuses_a_maker_that_workers_cannot_load():
    with pytest.raises((pickle.PicklingError, AttributeError), match='lambda'):
        EnvPool(lambda: Walk(), 2, 2)
    assert not multiprocessing.active_children()


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(4), raising=False)


@pytest.mark.usefixtures('four_cores')
def test_choose_workers__starts_some_where_simulating_is_slow(monkeypatch):
    assert choose_workers(Walk, 4) == 0
    assert choose_workers(Slow, 1) == 0
    assert choose_workers(Slow, 3, steps=5) in {2, 3}
    assert choose_workers(Slow, 64, steps=5) == 4
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(1))
    assert choose_workers(Slow, 64, steps=5) == 0


@pytest.mark.usefixtures('four_cores')
def test_choose_workers__keeps_a_maker_that_cannot_be_pickled_in_this_process():
    class Local(Slow):
        pass

    for make_env in (lambda: Slow(), Local, functools.partial(lambda env: env, Slow())):
        assert choose_workers(make_env, 64, steps=5) == 0
        with EnvPool(make_env, 2, choose_workers(make_env, 2)) as pool:
            assert len(pool.reset([0, 1], [0, 1]).obs) == 2


@pytest.mark.usefixtures('four_cores')
def test_choose_workers__keeps_a_maker_of_a_notebook_in_this_process(monkeypatch):
    """A worker finds what a script defines, and nothing that was typed into an interpreter."""

    class Typed(Slow):
        __module__, __qualname__ = '__main__', 'Typed'

    main = types.ModuleType('__main__')
    main.Typed = Typed
    monkeypatch.setitem(sys.modules, '__main__', main)
    assert choose_workers(Typed, 64, steps=5) == 0
    main.__file__ = __file__
    assert choose_workers(Typed, 64, steps=5) == 4


class Tired(Walk):
    """Gives less in each episode."""

    episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        obs, reward, *others = super().step(action)
        return obs, reward - self.episodes, *others


def test_choose_workers__warns_of_episodes_that_do_not_repeat():
    warned = []
    choose_workers(Walk, 1, warn=warned.append)
    assert not warned
    choose_workers(Tired, 1, warn=warned.append)
    assert len(warned) == 1
    assert 'results cannot be repeated, and depend on how many simulators run. Let ' in warned[0]

    def by_intent():
        env = Tired()
        env.spec = EnvSpec('Tired-v0', nondeterministic=True)
        return env

    choose_workers(by_intent, 1, warn=warned.append)
    assert len(warned) == 1
