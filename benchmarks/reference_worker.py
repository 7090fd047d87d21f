"""Runs the released torch code of DTQL or Diffusion-QL in a process of its own, to be timed.

`reference.py` starts it: the two repositories have packages of the same names, so one process
cannot import both. Nothing of a checkout is copied. Its own `train()` and `sample_action()` are
called as its `main.py` calls them, on the transitions of an npz file. It reads lines such as
`train 20` or `act 50` and answers each with a line when it is done.
"""

import argparse
import os
import sys
import types
from typing import Any

import numpy as np


def make_agent(asked: argparse.Namespace, obs_dim: int, action_dim: int) -> Any:
    """The released agent, with the settings that the released `main.py` gives it."""
    shared = {'device': asked.device, 'state_dim': obs_dim, 'action_dim': action_dim}
    if asked.method == 'dtql':
        from agents.dtql import DTQL

        box = types.SimpleNamespace(high=np.ones(action_dim), low=-np.ones(action_dim))
        return DTQL(**shared, action_space=box, gamma=asked.gamma)
    from agents.ql_diffusion import Diffusion_QL

    settings = {'max_action': 1.0, 'discount': 0.99, 'tau': 0.005, 'beta_schedule': 'vp'}
    settings |= {'n_timesteps': 5, 'grad_norm': 9.0, 'max_q_backup': asked.max_q_backup}
    return Diffusion_QL(**shared, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--method', choices=['dtql', 'dql'], required=True)
    parser.add_argument('--checkout', required=True, help='folder of the repository')
    parser.add_argument('--data', required=True, help='npz file with the transitions')
    parser.add_argument('--batch_size', type=int, required=True)
    parser.add_argument('--gamma', type=float, default=0.0)
    parser.add_argument('--max_q_backup', action='store_true')
    parser.add_argument('--device', default='cpu')
    asked = parser.parse_args()
    # The released code may print; only the answers go to the parent.
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.path[0] = os.path.abspath(asked.checkout)
    import torch
    from utils.data_sampler import Data_Sampler

    data = dict(np.load(asked.data))
    sampler = Data_Sampler(data, asked.device)
    obs = data['observations']
    agent = make_agent(asked, obs.shape[1], data['actions'].shape[1])

    def train(n: int) -> None:
        if asked.method == 'dql':
            agent.train(sampler, iterations=n, batch_size=asked.batch_size)
            return
        for _ in range(n):
            agent.train(sampler, batch_size=asked.batch_size)

    def act(n: int) -> None:
        for i in range(n):
            agent.sample_action(obs[i % len(obs)])

    jobs = {'train': train, 'act': act}
    print(torch.__version__, torch.get_num_threads(), file=answers, flush=True)
    for line in sys.stdin:
        job, n = line.split()
        jobs[job](int(n))
        if asked.device != 'cpu':
            torch.cuda.synchronize()
        print('done', file=answers, flush=True)


if __name__ == '__main__':
    main()
