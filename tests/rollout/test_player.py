import dataclasses
import functools
import multiprocessing
import os
import signal
import types

import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.base import Config
from dtql_jax.rollout import player
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.player import Conditions, Player, open_player
from dtql_jax.tasks.task import Task
from dtql_jax.types import Lane, Spec, Stopped, UserError
from tests.helpers import fake_env
from tests.helpers.fake_env import Walk
from tests.helpers.rollouts import SEEDS, agent_act, init, run

pytestmark = pytest.mark.usefixtures('quick_compile')

LANES = [Lane('toy', seed) for seed in SEEDS]
AGENT = types.SimpleNamespace(
    precise=lambda act: act, behave=agent_act, spec=Spec(2, 2), config=Config()
)
SCORED = Task('walk', (), score_range=(-20.0, 30.0))
MAZE = Task('walk', (), score_range=(0.0, 1.0), scored='success')


@pytest.fixture
def walks(monkeypatch):
    """Simulators of a maker that no worker could load."""
    monkeypatch.setattr(player, 'env_maker', lambda task: Walk)


def test_Player__a_row_has_the_means_and_the_episodes():
    expected = run()
    with EnvPool(Walk, 3) as pool:
        rows = Player(SCORED, AGENT, LANES, lambda: pool, Conditions(4))(init(2, 2), [2, 0])
    assert list(rows) == [2, 0]
    for i, row in rows.items():
        returns = expected.returns[i]
        assert row == {
            'eval/score': pytest.approx(np.mean(100 * (returns + 20) / 50)),
            'eval/return': np.mean(returns),
            'eval/length': np.mean(expected.length[i]),
            'eval/episodes': 4,
            'episode/score': (100 * (returns + 20) / 50).tolist(),
            'episode/return': returns.tolist(),
            'episode/length': expected.length[i].tolist(),
        }
        assert list(row)[:2] == ['eval/score', 'eval/return']


def test_Player__a_task_that_knows_success_reports_it():
    expected = run()
    with EnvPool(Walk, 3) as pool:
        row = Player(MAZE, AGENT, LANES, lambda: pool, Conditions(4))(init(2, 2), [1])[1]
    assert row['eval/success'] == np.mean(expected.success[1])
    assert row['eval/score'] == pytest.approx(100 * row['eval/success'])
    assert row['episode/success'] == expected.success[1].tolist()


def test_Player__without_a_score_range_the_score_is_the_return():
    with EnvPool(Walk, 3) as pool:
        row = Player(Task('walk', ()), AGENT, LANES, lambda: pool, Conditions(4))(init(2, 2), [1])[
            1
        ]
    assert row['eval/score'] == row['eval/return']
    assert {key for key in row if key[:8] == 'episode/'} == {'episode/return', 'episode/length'}


@pytest.mark.usefixtures('walks')
def test_open_player__passes_the_evaluation_seed_and_the_stop():
    with open_player(SCORED, AGENT, LANES, Conditions(4, 2, eval_seed=5)) as played:
        assert played.pool.num_envs == 2
        row = played(init(2, 2), [1])[1]
    assert row['eval/return'] == np.mean(run(slots=2, eval_seed=5).returns[1])
    stopping = Conditions(4, 2, patience=Patience(should_stop=lambda: True))
    with (
        pytest.raises(Stopped),
        open_player(SCORED, AGENT, LANES, stopping) as played,
    ):
        played(init(2, 2), [1])


@pytest.mark.parametrize(('platform', 'lanes', 'cores', 'most'), [
    ('cpu', 32, 16, 32), ('gpu', 1, 16, 32), ('gpu', 4, 16, 128), ('gpu', 32, 16, 256),
    ('gpu', 32, 1, 32), ('tpu', 32, 100, 1024),
])  # fmt: skip
def test_side_by_side__grows_with_lanes_and_cores_on_an_accelerator(
    monkeypatch, platform, lanes, cores, most
):
    device = types.SimpleNamespace(platform=platform)
    monkeypatch.setattr(player.jax, 'local_devices', lambda: [device])
    monkeypatch.setattr(player, 'cores', lambda: cores)
    assert player.side_by_side(lanes) == most


@pytest.mark.usefixtures('walks')
@pytest.mark.parametrize(('eval_envs', 'episodes', 'slots'), [
    (None, 4, 12), (None, 50, player.SIMULATORS), (5, 50, 5), (64, 1, 3),
])  # fmt: skip
def test_open_player__has_no_more_simulators_than_episodes(eval_envs, episodes, slots):
    with open_player(SCORED, AGENT, LANES, Conditions(episodes, eval_envs)) as played:
        assert played.pool.num_envs == slots
    with pytest.raises(RuntimeError, match='closed'):
        played.pool.reset([0], [0])


# Lanes whose evaluation fails, and simulators that do.


def played(make_env, params, lanes=(0, 1, 2), task=SCORED, workers=0, **options):
    """The rows of a player, and its warnings."""
    warnings = []
    conditions = Conditions(4, warn=warnings.append, **options)
    with EnvPool(make_env, 3, workers, conditions.patience) as pool:
        return Player(task, AGENT, LANES, lambda: pool, conditions)(params, list(lanes)), warnings


def test_Player__a_lane_that_fails_has_a_reason_and_no_score():
    params = init(2, 2)
    params[0] = params[0].at[1].set(jnp.nan)
    rows, _ = played(Walk, params)
    assert rows.pop(1) == {
        'eval/failed': 'action not finite: seed 7, episode 0, step 0',
        'eval/episodes': 4,
    }
    assert rows == played(Walk, init(2, 2), [0, 2])[0]


@pytest.mark.parametrize('make_env', [fake_env.SaysNothing, fake_env.NoInfo])
def test_Player__success_that_is_not_reported_is_no_number(make_env):
    rows, _ = played(make_env, init(2, 2), task=MAZE)
    assert set(rows[0]) == {'eval/failed', 'eval/episodes'}
    assert "neither info['success'] nor info['is_success']" in rows[0]['eval/failed']
    by_return = dataclasses.replace(MAZE, scored='return')
    maze = types.SimpleNamespace(tells_success=True, scored='return', score=by_return.score)
    rows, _ = played(make_env, init(2, 2), task=maze)
    assert not {'eval/success', 'episode/success'} & set(rows[0])
    assert 'eval/score' in rows[0]


class KilledOnce(Walk):
    """Ends its process in the fifth step, unless a file tells that this has happened."""

    def __init__(self, told):
        super().__init__()
        self.told, self.steps = told, 0

    def step(self, action):
        self.steps += 1
        if self.steps == 5 and not self.told.exists():
            self.told.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


@pytest.mark.slow
def test_Player__a_worker_that_was_killed_changes_nothing(tmp_path):
    make_env = functools.partial(KilledOnce, tmp_path / 'told')
    rows, warnings = played(make_env, init(2, 2), workers=2)
    assert rows == played(Walk, init(2, 2))[0]
    (warning,) = warnings
    assert warning == (
        'an environment worker died (SIGKILL): was memory short?; a script that starts workers '
        "needs `if __name__ == '__main__':`. The lanes are played again, one by one"
    )
    assert not multiprocessing.active_children()


def wild(params, obs, key):
    """The lane with the largest weights acts far out of the box."""
    return jnp.where(jnp.abs(params[0]).max() > 100, 3.0, agent_act(params, obs, key))


def outward(params, obs, key):
    """As `wild`, not as far."""
    return jnp.where(jnp.abs(params[0]).max() > 100, 1.5, agent_act(params, obs, key))


@pytest.mark.slow
@pytest.mark.parametrize(('make_env', 'act', 'reason'), [
    (fake_env.Broken, wild, 'an environment worker died (exit code 3): read its output above'),
    (fake_env.Hanging, outward, 'an environment worker hangs: no answer within 10 s; mend it'),
])  # fmt: skip
def test_Player__a_lane_that_costs_its_worker_fails_alone(make_env, act, reason, monkeypatch):
    monkeypatch.setattr(AGENT, 'behave', act)
    params = init(2, 2)
    expected, _ = played(Walk, params)
    params[0] = params[0].at[1].set(1000.0)
    rows, warnings = played(make_env, params, workers=2, patience=Patience(10))
    assert rows.pop(1)['eval/failed'].startswith(reason)
    assert rows == {lane: expected[lane] for lane in (0, 2)}
    assert len(warnings) == 1
    assert not multiprocessing.active_children()


def test_Player__a_hang_in_this_process_is_one_line(monkeypatch):
    monkeypatch.setattr(AGENT, 'behave', outward)
    params = init(2, 2)
    params[0] = params[0].at[1].set(1000.0)
    with pytest.raises(UserError, match=r'^a simulator hangs: no answer within 1 s; mend it, or'):
        played(fake_env.Hanging, params, patience=Patience(1))


@pytest.mark.parametrize(('make_env', 'message'), [
    (fake_env.Unbuildable, 'a simulator cannot be made: OSError: no such model file; mend it'),
    (fake_env.OldStyle, 'the simulator cannot be played, its reset failed: ValueError: .*; it n'),
    (fake_env.Unstartable, 'the simulator cannot be played, its reset failed: ValueError: no s'),
    (fake_env.NoReward, 'the simulator cannot be played, its step failed: TypeError: .*None'),
    (fake_env.OtherShape, 'the simulator cannot be played, its step failed: ValueError: an obs'),
    (fake_env.Leaving, 'the simulator cannot be played, its step failed: SystemExit: 7'),
    (fake_env.BadStart, 'the simulator cannot be played: its first observation is not finite'),
])  # fmt: skip
def test_open_player__refuses_a_simulator_that_can_never_do(make_env, message, monkeypatch):
    monkeypatch.setattr(player, 'env_maker', lambda task: make_env)
    with (
        pytest.raises(UserError, match=message) as error,
        open_player(SCORED, AGENT, LANES, Conditions(4)),
    ):
        pass
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('make_env', [fake_env.SaysNothing, fake_env.NoInfo])
def test_open_player__refuses_a_score_that_the_simulator_does_not_report(make_env, monkeypatch):
    monkeypatch.setattr(player, 'env_maker', lambda task: make_env)
    with (
        pytest.raises(UserError, match=r"neither info\['success'\] nor info\['is_success'\] in an"),
        open_player(MAZE, AGENT, LANES, Conditions(4)),
    ):
        pass
    with open_player(SCORED, AGENT, LANES, Conditions(4)) as opened:
        assert 'eval/success' not in opened(init(2, 2), [0])[0]


def test_open_player__stays_in_this_process_where_workers_cannot_make_simulators(monkeypatch):
    monkeypatch.setattr(player, 'env_maker', lambda task: fake_env.walk_outside_workers)
    monkeypatch.setattr(player, 'choose_workers', lambda *_, **__: 2)
    warnings = []
    with open_player(SCORED, AGENT, LANES, Conditions(4, warn=warnings.append)) as opened:
        rows = opened(init(2, 2), [1])
    assert rows == played(Walk, init(2, 2), [1])[0]
    (warning,) = warnings
    assert warning.startswith('the simulators run in this process, which is slower: a worker proc')
    assert 'LookupError: only the script has registered it' in warning
    assert not multiprocessing.active_children()
