"""Records SRPO: updates of its behaviour, then its critic, then its policy. Dropout is off."""

import functools
import sys
import types
from collections.abc import Mapping
from typing import Any
from unittest import mock

import torch

from tools.record_golden.recording import Batch, Case, Draws, Trace, add, fill, summaries

CASES = {
    'gym': Case(
        11, 3, 32, 3,
        {'env': 'hopper-medium-v2', 'beta': 0.05, 'regq': 0, 'policy_layer': 2, 'q_layer': 2,
         'WT': 'VDS'},
    ),
    'antmaze': Case(
        29, 8, 16, 3,
        {'env': 'antmaze-large-diverse-v2', 'beta': 0.05, 'regq': 1, 'policy_layer': 4,
         'q_layer': 4, 'WT': 'VDS'},
    ),
}  # fmt: skip
PHASES = ('behaviour', 'critic', 'policy')
ACTING = 4  # observations


def record() -> Trace:
    """The trace of every case. The checkout is importable."""
    # The checkout imports simulators that no update needs, and moves two networks to a GPU.
    for absent in ('d4rl', 'gym'):
        sys.modules[absent] = types.ModuleType(absent)
    trace: Trace = {}
    to = torch.nn.Module.to

    def stay(self: torch.nn.Module, *where: Any, **kwargs: Any) -> torch.nn.Module:
        return self if 'cuda' in where else to(self, *where, **kwargs)

    with mock.patch.object(torch.nn.Module, 'to', stay):
        for name, case in CASES.items():
            _record_case(trace, name, case)
            print(name, flush=True)
    return trace


class Released:
    """The three released learners of a case, with weights by the formula."""

    def __init__(self, case: Case):
        import SRPO
        import utils

        std = functools.partial(utils.marginal_prob_std, device='cpu')
        args = types.SimpleNamespace(
            device='cpu', actor_blocks=3, n_policy_epochs=100, **case.settings
        )
        both = case.obs_dim + case.action_dim
        self.behaviour = SRPO.SRPO_Behavior(both, case.action_dim, std, args)
        self.critic = SRPO.SRPO_IQL(both, case.action_dim, args).q[0]
        self.learner = SRPO.SRPO(both, case.action_dim, std, args)
        self.policy = self.learner.SRPO_policy
        networks = (self.behaviour.diffusion_behavior, self.critic.q0, self.critic.vf, self.policy)
        for number, network in enumerate(networks):
            fill(network, number)
        self.critic.q0_target.load_state_dict(self.critic.q0.state_dict())
        _without_dropout(self.behaviour)

    def begin_policy(self) -> None:
        """Gives the policy's learner the behaviour and the target critic reached so far."""
        behaviour = self.behaviour.diffusion_behavior.state_dict()
        self.learner.diffusion_behavior.load_state_dict(behaviour)
        self.learner.q[0].q0_target.load_state_dict(self.critic.q0_target.state_dict())
        _without_dropout(self.learner)

    def update(
        self, phase: str, data: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, Any], dict[str, torch.nn.Module]]:
        """One update; the losses, and the networks that it may move."""
        critic = self.critic
        if phase == 'behaviour':
            self.behaviour.update_behavior(data)
            network = self.behaviour.diffusion_behavior
            return {'behavior': self.behaviour.loss}, {'behavior': network}
        if phase == 'critic':
            critic.update_q0(data)
            networks = {'q': critic.q0, 'v': critic.vf, 'q_target': critic.q0_target}
            return {'v': critic.v_loss, 'q': critic.q_loss}, networks
        self.learner.update_SRPO_policy(data)
        return {'q_mean': self.policy.q}, {'policy': self.policy}


def _record_case(trace: Trace, name: str, case: Case) -> None:
    released, draws = Released(case), Draws()
    add(trace, name, case.meta())
    batches = case.batches(len(PHASES) * case.steps)
    for i, batch in enumerate(batches):
        phase = PHASES[i // case.steps]
        if i == PHASES.index('policy') * case.steps:
            released.begin_policy()
        add(trace, f'{name}/batch{i}', batch)
        where = f'{name}/step{i}'
        with draws.recorded(trace, where):
            losses, networks = released.update(phase, _as_released(batch))
        add(trace, where, {key: float(loss) for key, loss in losses.items()})
        for network, module in networks.items():
            # The released blocks have a Linear `residual` that is never used.
            used = {k: v for k, v in module.state_dict().items() if '.residual.' not in k}
            add(trace, where, summaries(network, used))
    obs = batches[0]['obs'][:ACTING]
    action = released.policy(torch.from_numpy(obs)).detach().numpy()
    add(trace, f'{name}/act', {'obs': obs, 'action': action})


def _as_released(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch under the released names."""
    x = {name: torch.from_numpy(value) for name, value in batch.items()}
    return {
        's': x['obs'],
        'a': x['action'],
        's_': x['next_obs'],
        'r': x['reward'],
        'd': 1 - x['not_done'],
    }


def _without_dropout(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
