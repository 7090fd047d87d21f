"""Every measurement in one command, in slices: what is done is not done again.

  python benchmarks/everything.py --out=benchmarks/results                     # all, however long
  python benchmarks/everything.py --out=results --minutes=9                    # a slice of that
  python benchmarks/everything.py --out=results --minutes=9 --hopper=DIR \\
    --reference_dtql=DIR --reference_dql=DIR

Runs the scripts of this folder one after the other, keeps their results as
`<out>/<measurement>_<cpu, gpu or tpu>.json`, and draws the charts. With --minutes it stops in time;
the same command continues with the next measurement. Two are long and continue where they were: the
full grid of training_speed (off a CPU) and, with --hopper, the training of eight seeds at the
released settings on that Minari dataset of hopper-medium.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from absl import flags

from dtql_jax.cli.flags import run_command
from dtql_jax.types import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_string('out', None, 'folder of the results', FLAGS)
flags.DEFINE_float('minutes', None, 'stop after so long', flag_values=FLAGS)
flags.DEFINE_list('only', [], 'these measurements, by name', FLAGS)
flags.DEFINE_string('hopper', None, 'folder of the dataset of hopper-medium', FLAGS)
flags.DEFINE_string('reference_dtql', None, 'checkout of the released DTQL', FLAGS)
flags.DEFINE_string('reference_dql', None, 'checkout of the released Diffusion-QL', FLAGS)

HERE = pathlib.Path(__file__).parent
GRACE_S = 30  # for a script to save what it has
# Those that need no flags beside these, the important ones first.
SCRIPTS = {
    'against_diffusion_ql': ['reference'],
    'limit': ['limit'],
    'inference_speed': ['speed', '--part=acting'],
    'scaling': ['speed', '--part=scaling'],
    'overlap': ['speed', '--part=overlap'],
    'loading': ['loading'],
    'top_kernels': ['operations'],
    'time_to_result': ['speed', '--part=run'],
    'training_speed': ['speed', '--part=training'],
}
ON_ACCELERATORS = {
    'limit_16_seeds': ['limit', '--seeds=16'],
    'top_kernels_16_seeds': ['operations', '--seeds=16'],
}


def backend() -> str:
    """jax's platform, asked in a process of its own: a GPU's memory goes to whoever asks first."""
    command = [sys.executable, '-c', 'import jax; print(jax.default_backend())']
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def commands(asked: flags.FlagValues, out: pathlib.Path, platform: str) -> dict[str, list[str]]:
    """The measurements by name, in order."""
    accelerated, hopper = platform != 'cpu', asked.hopper
    references = {name: asked[name].value for name in ('reference_dtql', 'reference_dql')}
    data = [f'--dataset_path={hopper}'] if hopper else []
    task = ['--env=hopper-medium', '--num_seeds=8']
    further = {
        'against_diffusion_ql': [f'--{name}={path}' for name, path in references.items() if path]
        + (['--seeds=1,4,16'] if accelerated else []),
        'overlap': [*task, *data] if accelerated and hopper else [],
        'loading': data,
        'training_speed': ['--grid=full'] if accelerated else [],
    }
    found = {}
    for name, (script, *given) in {**SCRIPTS, **(ON_ACCELERATORS if accelerated else {})}.items():
        program = [sys.executable, str(HERE / f'{script}.py')]
        result = f'--out={out / f"{name}_{platform}.json"}'
        found[name] = [*program, result, *given, *further.get(name, [])]
    if hopper:
        run = out / f'hopper_medium_{platform}'
        resume = ['--resume'] if (run / 'config.json').exists() else []
        program = [sys.executable, str(HERE.parent / 'experiments' / 'run.py')]
        found['hopper_medium'] = [*program, *task, f'--out={run}', *data, *resume]
    return found


def finished(command: list[str], until: float) -> bool:
    """Runs the command; at `until` asks it to save and stop. Returns whether it ended by itself."""
    process = subprocess.Popen(command)
    try:
        return process.wait(max(0.0, until - time.monotonic())) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return False


def main(asked: flags.FlagValues) -> None:
    if asked.out is None:
        raise UserError('--out is needed: the folder of the results')
    out, platform = pathlib.Path(asked.out), backend()
    out.mkdir(parents=True, exist_ok=True)
    ledger = out / f'done_{platform}.json'
    done = json.loads(ledger.read_text()) if ledger.exists() else []
    until = time.monotonic() + 60 * asked.minutes if asked.minutes else float(2**30)
    os.environ.setdefault('PYTHONUNBUFFERED', '1')
    for name, command in commands(asked, out, platform).items():
        if name in done or (asked.only and name not in asked.only):
            continue
        if time.monotonic() + GRACE_S > until:
            break
        print(f'== {name}', flush=True)
        if finished(command, until - GRACE_S):
            done.append(name)
            ledger.write_text(json.dumps(done) + '\n')
        else:
            print(f'== {name} is not finished', flush=True)
    subprocess.run([sys.executable, str(HERE / 'charts.py'), f'--results={out}'], check=True)


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
