"""Records golden traces from a checkout of released code, which is given by its path.

  python -m tools.record_golden --method=dtql --checkout=DIR --out=dtql.npz
  python -m tools.record_golden --method=srpo --checkout=DIR --compare=tests/golden/srpo.npz

README.md beside this file names the checkouts and describes the format. An environment with torch,
NumPy and what the checkout imports is enough: this package is not imported.
"""

import argparse
import pathlib
import sys

import numpy as np

METHODS = ('dtql', 'dql_kl', 'dql', 'srpo', 'td3_bc', 'fql', 'rebrac')


def main() -> None:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        'python -m tools.record_golden', description=__doc__, formatter_class=kind
    )
    parser.add_argument('--method', choices=METHODS, required=True, help='what to record')
    parser.add_argument('--checkout', required=True, help='folder of the released repository')
    parser.add_argument('--out', help='npz file to write')
    parser.add_argument('--compare', help='npz file to compare the new trace with')
    asked = parser.parse_args()
    checkout = pathlib.Path(asked.checkout).expanduser().resolve()
    if not checkout.is_dir():
        parser.error(f'--checkout={asked.checkout}: no such folder')
    trace = record(asked.method, checkout)
    print(f'{len(trace)} arrays')
    if asked.out:
        np.savez_compressed(asked.out, **trace)
    if asked.compare:
        print(difference(trace, dict(np.load(asked.compare))))


def record(method: str, checkout: pathlib.Path) -> dict[str, np.ndarray]:
    """The trace of a method. Imports torch and the checkout; sums are made by one thread."""
    import torch

    sys.path.insert(0, str(checkout))
    if method in ('fql', 'rebrac'):
        from tools.record_golden import flow_q

        return flow_q.record(method)
    from tools.record_golden import diffusion_q, srpo, td3_bc

    torch.set_num_threads(1)
    if method in ('srpo', 'td3_bc'):
        return {'srpo': srpo, 'td3_bc': td3_bc}[method].record()
    return diffusion_q.record(method)


def difference(new: dict[str, np.ndarray], old: dict[str, np.ndarray]) -> str:
    """How two traces differ: their keys, the number of arrays that do, the largest difference."""
    if new.keys() != old.keys():
        lacking, further = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        return f'keys lacking: {len(lacking)} {lacking[:3]}, keys new: {len(further)} {further[:3]}'
    largest, differing = (0.0, ''), 0
    for name, x in old.items():
        if np.array_equal(x, new[name]) and x.dtype == new[name].dtype:
            continue
        differing += 1
        if x.dtype != new[name].dtype or x.shape != new[name].shape or x.dtype.kind in 'USb':
            return f'{name} is {new[name].dtype} {new[name].shape}, not {x.dtype} {x.shape}'
        scale = np.maximum(1.0, np.abs(x))
        largest = max(largest, (float(np.max(np.abs(new[name] - x) / scale)), name))
    if not differing:
        return f'all {len(old)} arrays are equal to the bit'
    return f'{differing} of {len(old)} arrays differ, by at most {largest[0]:.1e} ({largest[1]})'


if __name__ == '__main__':
    main()
