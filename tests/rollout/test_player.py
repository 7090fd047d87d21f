import types

import numpy as np
import pytest

from dtql_jax.rollout import player
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.player import Conditions, Player, open_player
from dtql_jax.tasks.task import Task
from dtql_jax.types import Lane, Stopped
from tests.helpers.fake_env import Walk
from tests.helpers.rollouts import SEEDS, agent_act, init, run

LANES = [Lane('toy', seed) for seed in SEEDS]
AGENT = types.SimpleNamespace(precise=lambda act: act, act=agent_act)
SCORED = Task('walk', (), score_range=(-20.0, 30.0))
MAZE = Task('walk', (), score_range=(0.0, 1.0), scored='success')


@pytest.fixture
def walks(monkeypatch):
    """Simulators of a maker that no worker could load."""
    monkeypatch.setattr(player, 'env_maker', lambda task: Walk)


def test_Player__a_row_has_the_means_over_episodes():
    expected = run()
    with EnvPool(Walk, 3) as pool:
        rows = Player(SCORED, AGENT, LANES, pool, Conditions(4))(init(2, 2), [2, 0])
    assert list(rows) == [2, 0]
    for i, row in rows.items():
        returns = expected.returns[i]
        assert row == {
            'eval/score': pytest.approx(np.mean(100 * (returns + 20) / 50)),
            'eval/return': np.mean(returns),
            'eval/length': np.mean(expected.length[i]),
            'eval/episodes': 4,
        }


def test_Player__a_task_that_knows_success_reports_it():
    expected = run()
    with EnvPool(Walk, 3) as pool:
        row = Player(MAZE, AGENT, LANES, pool, Conditions(4))(init(2, 2), [1])[1]
    assert row['eval/success'] == np.mean(expected.success[1])
    assert row['eval/score'] == pytest.approx(100 * row['eval/success'])


def test_Player__without_a_score_range_the_score_is_the_return():
    with EnvPool(Walk, 3) as pool:
        row = Player(Task('walk', ()), AGENT, LANES, pool, Conditions(4))(init(2, 2), [1])[1]
    assert row['eval/score'] == row['eval/return']


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


@pytest.mark.usefixtures('walks')
@pytest.mark.parametrize(('eval_envs', 'episodes', 'slots'), [
    (None, 4, 12), (None, 50, player.SIMULATORS), (5, 50, 5), (64, 1, 3),
])  # fmt: skip
def test_open_player__has_no_more_simulators_than_episodes(eval_envs, episodes, slots):
    with open_player(SCORED, AGENT, LANES, Conditions(episodes, eval_envs)) as played:
        assert played.pool.num_envs == slots
    with pytest.raises(RuntimeError, match='closed'):
        played.pool.reset([0], [0])
