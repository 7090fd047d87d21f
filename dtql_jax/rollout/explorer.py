"""The environments of a run that goes on in them: one for each lane, with its episodes.

A resume needs the state of every simulator, and simulators cannot be saved. But an episode is a
function of its start's seed and of its actions, which are among the lane's rows. So a resume plays
the episodes under way again, at most one for each lane, and finds the state bit for bit. Where a
simulator does not repeat, a warning says so and its lane begins a new episode.

The seed of a start depends on the seed of the lane and on the number of its rows at that time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dtql_jax.agents.base import Agent
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.simulators import Steps
from dtql_jax.training.online import Told
from dtql_jax.types import Lane, Transition, UserError, outside

# The root of all starts. `evaluate.start_seed` hashes fewer numbers.
START_TAG = 0x6F6E6C69


class Explorer:
    """Plays the lanes of a run, each in the simulator of its number.

    Args:
        agent: its units are those of the rows.
        lanes: all lanes of the run.
        pool: as many simulators.
        reward: makes rewards of the simulator, float64, those that the agent sees.
        columns: the agent's further columns; whether each goes on across the ends of episodes.
        warn: is called with a line about each simulator that does not repeat.
    """

    def __init__(
        self,
        agent: Agent,
        lanes: Sequence[Lane],
        pool: EnvPool,
        reward: Callable[[np.ndarray], np.ndarray],
        columns: Mapping[str, bool],
        warn: Callable[[str], None],
    ):
        self._agent, self._lanes, self._pool = agent, tuple(lanes), pool
        self._reward, self._columns, self._warn = reward, dict(columns), warn
        self._record: dict[str, Any] = {}
        self._rows = 0
        self._obs = np.zeros((len(lanes), agent.spec.obs_dim), np.float32)
        self._total = np.zeros(len(lanes))  # the returns of the episodes under way

    def begin(self, record: dict[str, Any], rows: Transition, alive: np.ndarray) -> Told:
        """Begins episodes, or plays those under way again.

        Args:
            record: `begins` has the row at which the episode under way of each lane began, and
                `ended` returns and lengths of those that ended since `means`. It is kept up to
                date.
            rows: the rows of all lanes, `[S, n, ...]`.
            alive: which lanes play, `[S]`.

        Raises:
            Stopped: on request.
            UserError: a simulator fails.
        """
        lanes, self._rows = np.flatnonzero(alive), rows.reward.shape[1]
        record.setdefault('begins', [self._rows] * len(self._lanes))
        record.setdefault('ended', [[] for _ in self._lanes])
        self._record = record
        begins, self._total[:] = np.array(record['begins']), 0.0
        self._obs[lanes] = self._start(lanes, begins[lanes])
        sound = alive.copy()  # the lanes whose episodes repeat
        for row in range(int(begins[lanes].min(initial=self._rows)), self._rows):
            playing = np.flatnonzero(sound & (begins <= row))
            if not playing.size:
                continue
            steps, obs = self._step(playing, np.asarray(rows.action)[:, row])
            self._total[playing] += steps.reward
            self._obs[playing] = obs
            same = (obs == rows.next_obs[playing, row]).all(1)
            sound[playing] = same & ~(steps.terminated | steps.truncated)
        if (strange := np.flatnonzero(alive & ~sound)).size:
            names = ', '.join(map(self._name, strange))
            self._warn(
                f'the simulator did not repeat the episodes under way ({names}): they begin anew, '
                'so the bits differ from those of an undisturbed run'
            )
            self._obs[strange] = self._start(strange, [self._rows] * len(strange))
            for lane in strange:
                record['begins'][lane], self._total[lane] = self._rows, 0.0
        nothing = np.zeros(len(alive), np.float32)
        return self._told(np.zeros(len(alive), bool), nothing, nothing, self._obs)

    def step(self, action: np.ndarray, alive: np.ndarray) -> Told:
        """One step of the lanes that are `alive` `[S]`; see `Explore.step`.

        Raises:
            Stopped: on request.
            UserError: a simulator fails. The record is that of the step before.
        """
        lanes, begins = np.flatnonzero(alive), self._record['begins']
        self._check('action', action[lanes], lanes)
        steps, next_obs = self._step(lanes, action)
        over = steps.terminated | steps.truncated
        starts = self._start(lanes[over], [self._rows + 1] * int(over.sum()))
        # Nothing fails from here on.
        reward, mask = np.zeros((2, len(alive)), np.float32)
        reward[lanes] = self._reward(steps.reward)
        mask[lanes] = 1 - steps.terminated
        self._obs[lanes] = next_obs
        told = self._told(alive.copy(), reward, mask, self._obs.copy())
        self._total[lanes] += steps.reward
        self._rows += 1
        for lane in lanes[over]:
            length = self._rows - begins[lane]
            self._record['ended'][lane].append([float(self._total[lane]), length])
            begins[lane], self._total[lane] = self._rows, 0.0
        self._obs[lanes[over]] = starts
        return told._replace(obs=self._obs.copy())

    def means(self) -> list[dict[str, float]]:
        """The means over each lane's episodes that ended since the last call; {} without any."""
        ended, self._record['ended'] = self._record['ended'], [[] for _ in self._lanes]
        found = []
        for episodes in ended:
            returns, lengths = np.array(episodes).reshape(-1, 2).T
            row = {'return': returns, 'length': lengths} if episodes else {}
            means = {f'explore/{name}': float(values.mean()) for name, values in row.items()}
            found.append({**means, **({'explore/episodes': len(episodes)} if episodes else {})})
        return found

    # Inside.

    def _told(
        self, made: np.ndarray, reward: np.ndarray, mask: np.ndarray, next_obs: np.ndarray
    ) -> Told:
        inside = np.array(self._record['begins']) < self._rows  # an episode goes on
        joined = {name: inside | across for name, across in self._columns.items()}
        return Told(made, reward, mask, next_obs, joined, self._obs.copy())

    def _start(self, lanes: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The first observations of new episodes, in the agent's units, `[n, O]`."""
        if not len(lanes):
            return self._obs[lanes]
        seeds = [start_seed(self._lanes[i].seed, row) for i, row in zip(lanes, rows, strict=True)]
        with outside('the simulators cannot be reset', 'mend them'):
            steps = self._pool.reset(lanes.tolist(), seeds)
        return self._seen(steps, lanes)

    def _step(self, lanes: np.ndarray, action: np.ndarray) -> tuple[Steps, np.ndarray]:
        """A step of some lanes by `action` `[S, A]`, and the observations in the agent's units."""
        with outside('the simulators cannot be stepped', 'mend them'):
            steps = self._pool.step(lanes.tolist(), self._agent.outward(action[lanes]))
        obs = self._seen(steps, lanes)
        self._check('reward', steps.reward, lanes)
        return steps, obs

    def _seen(self, steps: Steps, lanes: np.ndarray) -> np.ndarray:
        for lane, failure in zip(lanes, steps.failure, strict=True):
            if failure:
                raise UserError(f'the simulator failed, {failure}: {self._name(lane)}')
        self._check('observation', steps.obs, lanes)
        return self._agent.inward(steps.obs)

    def _check(self, what: str, values: np.ndarray, lanes: np.ndarray) -> None:
        for lane, value in zip(lanes, values, strict=True):
            if not np.isfinite(value).all():
                raise UserError(f'{what} not finite: {self._name(lane)}')

    def _name(self, lane: Any) -> str:
        """A lane, and where it is, in a message."""
        found = self._lanes[lane]
        return f'{found.variant} seed {found.seed}, step {self._rows} in the environment'


def start_seed(seed: int, row: int) -> int:
    """The seed of the start of the episode that begins at a row of the lane of a seed: a hash."""
    return int(np.random.SeedSequence([START_TAG, seed, int(row)]).generate_state(1)[0])
