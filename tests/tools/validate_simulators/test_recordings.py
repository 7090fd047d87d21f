"""Episodes as `replay` reads them: one row of state and action for each step."""

import gymnasium as gym
import numpy as np

from tools.validate_simulators.recordings import minari, ogbench, rollout, spread


def test_spread__takes_first_and_last():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 40) == [0, 1, 2]


def test_minari_and_ogbench__are_none_where_absent(tmp_path):
    assert minari(None, 'x') is None
    assert minari(str(tmp_path), 'x') is None
    assert ogbench(None, 'x') is None
    assert ogbench(str(tmp_path), 'x') is None


def test_ogbench__cuts_a_file_at_its_terminals(tmp_path):
    columns = {name: np.arange(10.0).reshape(5, 2) for name in ('observations', 'qpos', 'qvel')}
    terminals = np.array([0, 0, 1, 0, 1], np.float32)
    actions = np.arange(5.0)[:, None]
    np.savez(tmp_path / 'set.npz', **columns, actions=actions, terminals=terminals)
    first, second = ogbench(str(tmp_path), 'set')
    assert (len(first.obs), len(first.action), len(first.state)) == (3, 2, 2)
    assert second.action.tolist() == [[3.0]]
    assert second.state.tolist() == [[6.0, 7.0, 6.0, 7.0]]


def test_rollout__records_at_least_so_many_rows():
    env = gym.make('Hopper-v5')
    episodes = list(rollout(env, 'planar', rows=30))
    assert sum(len(episode.action) for episode in episodes) >= 30
    for episode in episodes:
        assert len(episode.obs) == len(episode.action) + 1 == len(episode.state) + 1
        assert episode.obs.dtype == np.float32
    env.close()
