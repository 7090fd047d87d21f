"""Simulators that fail, hang or return what is no number; in this process and in workers."""

import os
import pathlib
import re
import signal
import time

from tools.campaign import victim
from tools.campaign.accidents import (
    ENDS,
    Outcome,
    Place,
    accident,
    check,
    either,
    expect,
)


def faulty(place: Place, how: str, env: str = 'faulty') -> Outcome:
    """A run whose simulator fails: what it said is told, in one line or as a failed evaluation."""
    ended = place.train(f'--env={env}', variables={'CAMPAIGN_FAULT': how}, limit_s=60)
    return either(ended, {'raise': 'joint', 'exit': 'worker'}[how], ends=ENDS)


@accident
def simulator_raises(place: Place) -> Outcome:
    """A simulator in this process raises."""
    return faulty(place, 'raise')


@accident
def simulator_raises_in_a_worker(place: Place) -> Outcome:
    """A simulator in a worker process raises."""
    return faulty(place, 'raise', 'slow')


@accident
def worker_ends_itself(place: Place) -> Outcome:
    """A simulator ends its worker process."""
    return faulty(place, 'exit', 'slow')


@accident
def resume_after_a_failed_simulator(place: Place) -> Outcome:
    """A simulator raises; once it is mended, a resume goes on and the run can be evaluated."""
    faulty(place, 'raise')
    resumed = place.dtql('train', '--out=run', '--resume')
    again = place.dtql('evaluate', '--run=run', '--episodes=2')
    return check(
        either(resumed, ends=ENDS), (again.verdict == 'done', f'the evaluation: {again.last}')
    )


@accident
def worker_killed(place: Place) -> Outcome:
    """A worker process is killed under way."""
    child = place.start_train('--env=slow', '--eval_episodes=8')
    end = time.monotonic() + 40
    workers: list[int] = []
    while not workers and time.monotonic() < end and not child.over():
        time.sleep(0.05)
        workers = [pid for pid in _children(child.pid) if _spawned(pid)]
    time.sleep(2)
    for pid in workers[:1]:
        os.kill(pid, signal.SIGKILL)
    return either(child.wait(), 'worker', ends=ENDS)


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    text = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(word) for word in text.split()]


def _spawned(pid: int) -> bool:
    """Whether a process is a worker."""
    return b'spawn_main' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()


@accident
def simulator_hangs(place: Place) -> Outcome:
    """A simulator in this process hangs: a time limit ends it, or a line says that it hangs."""
    return hanging(place, 'faulty')


@accident
def worker_hangs(place: Place) -> Outcome:
    """A simulator in a worker process hangs: a time limit ends it, and the line names it."""
    return hanging(place, 'slow')


def hanging(place: Place, env: str) -> Outcome:
    """A simulator that hangs, under a time limit of 3 seconds where there is such a setting."""

    from dtql_jax.runs.plan import Request

    limit = ['--eval_timeout=3'] if 'eval_timeout' in Request.__dataclass_fields__ else []
    variables = {'CAMPAIGN_FAULT': 'hang'}
    ended = place.train(f'--env={env}', *limit, variables=variables, limit_s=60)
    return either(ended, 'hangs', ends=ENDS)


def poisoned(place: Place, how: str) -> Outcome:
    """A run in which some episodes are not numbers: it ends, says so, and so does a resume."""
    ended = place.train('--env=faulty', '--eval_episodes=4', variables={'CAMPAIGN_FAULT': how})
    said = ended.out + ended.err
    rows = victim.rows(place.folder / 'run', 'metrics')
    again = place.dtql('train', '--out=run', '--resume', variables={'CAMPAIGN_FAULT': how})
    return check(
        either(ended, ends=ENDS),
        (bool(re.search(r'episode \d+, step \d+', said)), 'episode and step are not said'),
        (len(rows) == 2, f'{len(rows)} rows'),
        (again.verdict in ENDS, f'the resume: {again.last}'),
    )


@accident
def observation_is_nan(place: Place) -> Outcome:
    """A simulator's observation is NaN in some episodes: that lane's evaluation has failed."""
    return poisoned(place, 'nan-obs')


@accident
def reward_is_nan(place: Place) -> Outcome:
    """A simulator's reward is NaN in some episodes: that lane's evaluation has failed."""
    return poisoned(place, 'nan-reward')


SCRIPT = """
import time
import gymnasium as gym
import numpy as np
import dtql_jax


class Mine(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        time.sleep(0.02)
        return np.zeros(2, np.float32), 1.0, False, False, {}


if __name__ == '__main__':
    import tools.campaign.toys as toys
    gym.register('Mine-v0', ENTRY, max_episode_steps=10)
    dtql_jax.register_task(dtql_jax.Task('mine', (), env_id='Mine-v0'))
    dtql_jax.run(
        {'env': 'mine', 'agent': AGENT, 'num_seeds': 1, 'steps': 20, 'eval_every': 20,
         'batch_size': 8, 'eval_episodes': 8},
        data=toys.arrays(), out='run',
    )
"""


@accident
def environment_of_the_script(place: Place) -> Outcome:
    """An environment whose class is in the user's script is stepped by worker processes."""
    return own(place, 'Mine')


@accident
def environment_of_a_lambda(place: Place) -> Outcome:
    """An environment that a lambda makes, which no worker process can load."""
    return own(place, 'lambda **kwargs: Mine()')


@accident
def environment_by_name_of_main(place: Place) -> Outcome:
    """An environment registered as '__main__:Mine', and stepped by worker processes."""
    return own(place, "'__main__:Mine'")


def own(place: Place, entry: str) -> Outcome:
    """The script with that entry point."""
    code = SCRIPT.replace('ENTRY', entry).replace('AGENT', repr(f'{victim.AGENT}:Line'))
    return expect(place.script(code), 'done')
