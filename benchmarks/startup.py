"""From launch to the first update of a run, with no compiled programs kept and with them.

  python benchmarks/startup.py --repeats=3
  python benchmarks/startup.py --checkouts=/path/to/an/older/one,.      # they take turns

The run is the README's. Its dataset is collected before the clock starts. Each launch is a process
of its own. 'cold' begins with an empty cache of compiled programs, 'warm' with that of the launch
before. A row has the medians of all launches: seconds until the first update, of the processor, and
of parts, as `startup_worker.py` tells them.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
from measure import Report, make_flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError

FLAGS = make_flags()
flags.DEFINE_list('checkouts', ['.'], 'folders of this repository, at any commit', FLAGS)
flags.DEFINE_list('given', [], 'flags of dtql train, without dashes: env=hopper-medium', FLAGS)
define_whole('repeats', 3, 'launches of each kind', FLAGS)

WORKER = pathlib.Path(__file__).with_name('startup_worker.py')


def launch(checkout: str, given: list[str], folder: pathlib.Path, cache: str) -> dict[str, Any]:
    """The seconds of one launch."""
    root = pathlib.Path(checkout).resolve()
    out = tempfile.mkdtemp(dir=folder)
    given = [f'out={out}/run', *given]
    done = subprocess.run(
        [sys.executable, WORKER, f'--launched={time.monotonic()}', f'--given={",".join(given)}'],
        env={
            **os.environ,
            'PYTHONPATH': str(root),
            'MINARI_DATASETS_PATH': str(folder / 'data'),
            'JAX_COMPILATION_CACHE_DIR': cache,
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f'{root}: {done.stderr.strip().splitlines()[-1]}: see to that first')
    return json.loads(done.stdout.splitlines()[-1])


def median(launches: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians, and the fewest and most seconds until the first update."""
    whole = [told['first update'] for told in launches]
    parts = {name: statistics.median(told[name] for told in launches) for name in launches[0]}
    return {**parts, 'fewest': min(whole), 'most': max(whole), 'launches': len(whole)}


def main(asked: flags.FlagValues) -> None:
    report = Report(asked.out, given=asked.given)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        launch(asked.checkouts[0], asked.given, folder, str(folder / 'first'))  # collects the data
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for turn in range(asked.repeats):
            for i, checkout in enumerate(asked.checkouts):
                for kind in ('cold', 'warm'):
                    cache = str(folder / f'cache-{i}-{turn}')
                    told = launch(checkout, asked.given, folder, cache)
                    found.setdefault((checkout, kind), []).append(told)
                    print(f'{checkout} {kind}: {json.dumps(told)}', flush=True)
        for (checkout, kind), launches in found.items():
            commit = subprocess.run(
                ['git', '-C', checkout, 'rev-parse', '--short', 'HEAD'],
                capture_output=True,
                text=True,
            ).stdout.strip()
            report.add({'commit': commit, 'cache': kind, **median(launches)})


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
