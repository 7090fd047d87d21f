"""Records DTQL, its KL variant and Diffusion-QL: whole calls of the released `train()`."""

import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tools.record_golden.recording import Batch, Case, Draws, Trace, add, fill, summaries

CASES = {
    'dtql': {
        'gym': Case(17, 6, 32, 3, {'alpha': 1.0, 'gamma': 0.0, 'expectile': 0.7, 'lr': 3e-4}),
        'antmaze': Case(29, 8, 32, 3, {'alpha': 0.5, 'gamma': 1.0, 'expectile': 0.9, 'lr': 3e-4}),
        'decay': Case(
            11, 3, 16, 4,
            {'alpha': 5.0, 'gamma': 0.0, 'expectile': 0.7, 'lr': 1e-4, 'lr_decay': True,
             'lr_maxt': 4},
        ),
        'box2': Case(
            5, 2, 16, 3, {'alpha': 2.0, 'gamma': 0.5, 'expectile': 0.8, 'lr': 3e-4}, max_action=2.0
        ),
    },
    'dql_kl': {
        'gym': Case(17, 6, 32, 3, {'alpha': 1.0, 'expectile': 0.7, 'lr': 3e-4}),
        'sigma1': Case(
            5, 2, 16, 3, {'alpha': 2.0, 'expectile': 0.9, 'lr': 3e-4, 'generation_sigma': 1.0}
        ),
    },
    'dql': {
        'gym': Case(
            17, 6, 32, 6, {'eta': 1.0, 'lr': 3e-4, 'grad_norm': 9.0, 'max_q_backup': False}
        ),
        'antmaze': Case(
            29, 8, 16, 6, {'eta': 3.5, 'lr': 3e-4, 'grad_norm': 1.0, 'max_q_backup': True}
        ),
    },
}  # fmt: skip
ACTING = 2, 16  # observations, and candidates for each


class Replay:
    """Stands for the released `Data_Sampler`: returns recorded batches, one a call."""

    def __init__(self, batches: list[Batch]):
        self._left = iter(batches)

    def sample(self, _: int) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(x) for x in next(self._left).values())


def record(method: str) -> Trace:
    """The trace of every case of `method`. The checkout is importable."""
    trace: Trace = {}
    for name, case in CASES[method].items():
        _record_case(trace, name, method, case)
        print(name, flush=True)
    return trace


def _record_case(trace: Trace, name: str, method: str, case: Case) -> None:
    agent, networks = make_agent(method, case)
    batches, draws = case.batches(case.steps), Draws()
    add(trace, name, {**case.meta(), 'meta/max_action': case.max_action})
    for i, batch in enumerate(batches):
        add(trace, f'{name}/batch{i}', batch)
    replay = Replay(batches)
    for i in range(case.steps):
        where = f'{name}/step{i}'
        with draws.recorded(trace, where):
            count = {'iterations': 1} if method == 'dql' else {}
            logged = agent.train(replay, batch_size=case.batch_size, **count)
        # A step without a loss, such as the gamma term at weight 0, logs nothing or NaN.
        losses = {k: v[0] for k, v in logged.items() if v and np.isfinite(v[0])}
        add(trace, where, losses)
        for network, module in networks.items():
            add(trace, where, summaries(network, module.state_dict()))
    _record_acting(trace, f'{name}/act', method, agent, batches[0]['obs'][: ACTING[0]], draws)


def make_agent(method: str, case: Case) -> tuple[Any, Mapping[str, torch.nn.Module]]:
    """The released agent with weights by the formula, and the networks that are summarised."""
    shared = {'device': 'cpu', 'state_dim': case.obs_dim, 'action_dim': case.action_dim}
    high = np.full(case.action_dim, case.max_action, np.float32)
    box = types.SimpleNamespace(high=high, low=-high)
    if method == 'dql':
        from agents.ql_diffusion import Diffusion_QL

        agent = Diffusion_QL(
            **shared,
            **case.settings,
            max_action=case.max_action,
            discount=0.99,
            tau=0.005,
            beta_schedule='vp',
            n_timesteps=5,
            step_start_ema=2,
            update_ema_every=2,
        )
        networks = {'critic': agent.critic, 'actor': agent.model}
    else:
        if method == 'dtql':
            from agents.dtql import DTQL as Released
        else:
            from agents.dql_kl import DQL_KL as Released
        agent = Released(**shared, **case.settings, action_space=box)
        networks = {
            'critic': agent.critic,
            'bc_actor': agent.bc_actor,
            'actor': agent.distill_actor,
            **({'fake_score': agent.fake_score} if method == 'dql_kl' else {}),
        }
    for number, network in enumerate(networks.values()):
        fill(network, number)
    agent.critic_target.load_state_dict(agent.critic.state_dict())
    networks = {**networks, 'critic_target': agent.critic_target}
    if method == 'dql':
        agent.ema_model.load_state_dict(agent.actor.state_dict())
        networks = {**networks, 'ema_actor': agent.ema_model.model}
    return agent, networks


@torch.no_grad()
def _record_acting(
    trace: Trace, where: str, method: str, agent: Any, obs: np.ndarray, draws: Draws
) -> None:
    """Candidates for each observation, the target critics' min, the probabilities of the pick."""
    count, candidates = ACTING
    states = torch.from_numpy(np.repeat(obs, candidates, axis=0))
    with draws.recorded(trace, where):
        if method == 'dtql':
            action = agent.distill_actor.sample(states)
        elif method == 'dql_kl':
            action = agent.get_agent_sample(
                agent.distill_actor, given_state=states, generation_sigma=agent.generation_sigma
            )
        else:
            action = agent.actor.sample(states)
        q = agent.critic_target.q_min(states, action).reshape(count, candidates)
    add(trace, where, {
        'obs': obs,
        'action': action.numpy().reshape(count, candidates, -1),
        'q': q.numpy(),
        'pick_prob': torch.softmax(q, dim=-1).numpy(),
    })  # fmt: skip
