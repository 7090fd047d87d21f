"""Runs the released torch code of DTQL or Diffusion-QL in a process of its own.

`reference.py` times it and `learning.py` lets it learn: the two repositories have packages of the
same names, so one process cannot import both. Nothing of a checkout is copied. Its own `train()`
and `sample_action()` are called as its `main.py` calls them, on the transitions of an npz file. It
reads lines such as `train 20`, `act 50` or `play 3 4`, and answers each with a line of JSON when it
is done.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import pathlib
import sys
import types
from typing import Any

import numpy as np


def make_agent(asked: argparse.Namespace, obs_dim: int, action_dim: int) -> Any:
    """The released agent, with the settings that the released `main.py` gives it and those asked.

    `settings` has arguments of its constructor, by name.
    """
    shared = {'device': asked.device, 'state_dim': obs_dim, 'action_dim': action_dim}
    if asked.method == 'dtql':
        from agents.dtql import DTQL

        box = types.SimpleNamespace(high=np.ones(action_dim), low=-np.ones(action_dim))
        return DTQL(**shared, action_space=box, **asked.settings)
    from agents.ql_diffusion import Diffusion_QL

    settings = {'max_action': 1.0, 'discount': 0.99, 'tau': 0.005, 'beta_schedule': 'vp'}
    settings |= {'n_timesteps': 5, 'grad_norm': 9.0, **asked.settings}
    return Diffusion_QL(**shared, **settings)


def train(asked: argparse.Namespace, agent: Any, sampler: Any, n: int) -> dict[str, float]:
    """Makes `n` updates; the means of the losses that `train()` returned."""
    losses: dict[str, list[float]] = collections.defaultdict(list)
    calls, iterations = (1, {'iterations': n}) if asked.method == 'dql' else (n, {})
    for _ in range(calls):
        made = agent.train(sampler, batch_size=asked.batch_size, **iterations)
        for name, values in made.items():
            losses[name] += values
    return {name: float(np.mean(values)) for name, values in losses.items()}


def play(asked: argparse.Namespace, agent: Any, *seeds: int) -> list[list[float]]:
    """Return, success and length of an episode for each seed of a start, in the task's simulator.

    The simulator is the one that evaluates this package's agents.
    """
    from dtql_jax.rollout.simulators import Simulators
    from dtql_jax.tasks.env import env_maker
    from dtql_jax.tasks.task import Task

    fields = json.loads(pathlib.Path(asked.task).read_text())
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    make = env_maker(Task(**fields))
    rows = []
    with contextlib.closing(Simulators(make, [0])) as one:
        for seed in seeds:
            step = one.answer('reset', [0], np.array([seed]))
            total, success, length, over = 0.0, np.nan, 0, False
            while not over:
                step = one.answer('step', [0], agent.sample_action(step.obs[0])[None])
                if step.failure[0]:
                    raise SystemExit(f'the simulator failed: {step.failure[0]}')
                total, length = total + float(step.reward[0]), length + 1
                success = float(np.fmax(success, step.success[0]))
                over = step.terminated[0] or step.truncated[0]
            rows.append([total, success, length])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--method', choices=['dtql', 'dql'], required=True)
    parser.add_argument('--checkout', required=True, help='folder of the repository')
    parser.add_argument('--data', required=True, help='npz file with the transitions')
    parser.add_argument('--batch_size', type=int, required=True)
    parser.add_argument('--settings', type=json.loads, default={}, help='of the agent, as JSON')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--task', help="JSON file with the task that 'play' plays")
    parser.add_argument('--device', default='cpu')
    asked = parser.parse_args()
    # The released code may print; only the answers go to the parent.
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.path[0] = os.path.abspath(asked.checkout)
    import torch
    from utils.data_sampler import Data_Sampler

    torch.manual_seed(asked.seed)
    np.random.seed(asked.seed)  # noqa: NPY002, which the released code draws from
    data = dict(np.load(asked.data))
    sampler = Data_Sampler(data, asked.device)
    obs = data['observations']
    agent = make_agent(asked, obs.shape[1], data['actions'].shape[1])

    def pretrain(n: int) -> None:
        agent.pretrain(sampler, batch_size=asked.batch_size, pretrain_steps=n)

    def act(n: int) -> None:
        for i in range(n):
            agent.sample_action(obs[i % len(obs)])

    jobs = {
        'pretrain': pretrain,
        'train': functools.partial(train, asked, agent, sampler),
        'act': act,
        'play': functools.partial(play, asked, agent),
    }
    print(torch.__version__, torch.get_num_threads(), file=answers, flush=True)
    for line in sys.stdin:
        job, *numbers = line.split()
        answer = jobs[job](*map(int, numbers))
        if asked.device != 'cpu':
            torch.cuda.synchronize()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
    main()
