"""Lanes: groups of seeds that differ in a float setting, trained in one compiled program.

python examples/lanes.py

Here DTQL's `alpha` differs, the weight of the trust region: a small one trusts Q far from the data,
a large one pulls the policy back to them. In so short a run the largest scores worst. Three lanes,
one compilation. It takes about 45 seconds.
"""

import tempfile

from own_data import SMALL, TASK, swings  # a task of one's own and its data

import dtql_jax

ALPHAS = (0.1, 1.0, 10.0)


def main() -> None:
    dtql_jax.register_task(TASK)
    request = {
        'env': TASK.name,
        'agent': 'dtql',
        'num_seeds': 1,
        'variants': {f'alpha {alpha:g}': {'alpha': alpha} for alpha in ALPHAS},
        'candidates': 1,  # acts by the policy alone, without a choice by Q
        'pretrain_steps': 500,
        'discount': 0.95,
        **SMALL,
        'steps': 1500,
        'eval_every': 1500,
    }
    with tempfile.TemporaryDirectory() as folder:
        result = dtql_jax.run(request, data=swings(), out=f'{folder}/run')
    for variant in request['variants']:
        print(f'{variant:>10}: scores of its seeds', result.scores(variant))


if __name__ == '__main__':
    main()
