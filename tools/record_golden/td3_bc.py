"""Records TD3+BC: whole calls of the released `train()`, which logs no loss."""

import numpy as np

from tools.record_golden.diffusion_q import Replay
from tools.record_golden.recording import Case, Draws, Trace, add, fill, summaries

CASES = {
    'gym': Case(17, 6, 32, 4, {'alpha': 2.5, 'policy_noise': 0.2}),
    'antmaze': Case(29, 8, 32, 4, {'alpha': 0.5, 'policy_noise': 0.6}),
}


def record() -> Trace:
    """The trace of every case. The checkout is importable."""
    from TD3_BC import TD3_BC

    trace: Trace = {}
    for name, case in CASES.items():
        agent = TD3_BC(case.obs_dim, case.action_dim, case.max_action, **case.settings)
        networks = {'critic': agent.critic, 'actor': agent.actor}
        for number, network in enumerate(networks.values()):
            fill(network, number)
        networks |= {'critic_target': agent.critic_target, 'actor_target': agent.actor_target}
        for network in ('critic', 'actor'):
            networks[f'{network}_target'].load_state_dict(networks[network].state_dict())
        add(trace, name, case.meta())
        batches, draws = case.batches(case.steps), Draws()
        replay = Replay(batches)
        for i, batch in enumerate(batches):
            add(trace, f'{name}/batch{i}', batch)
            with draws.recorded(trace, f'{name}/step{i}'):
                agent.train(replay, case.batch_size)
            for network, module in networks.items():
                add(trace, f'{name}/step{i}', summaries(network, module.state_dict()))
        obs = batches[0]['obs'][:4]
        action = np.stack([agent.select_action(x) for x in obs])
        add(trace, f'{name}/act', {'obs': obs, 'action': action})
        print(name, flush=True)
    return trace
