"""Every measurement in one command, in slices: what was done is not done again.

  python benchmarks/everything.py --out=benchmarks/results                     # all, however long
  python benchmarks/everything.py --out=results --minutes=9                    # a slice of that
  python benchmarks/everything.py --out=results --minutes=9 --hopper=DIR \\
    --reference_dtql=DIR --reference_dql=DIR

Runs the scripts of this folder one after the other and keeps their results as
`<out>/<script>_<cpu, gpu or tpu>.json`, then draws the charts. With `--minutes` it stops in time;
the same command goes on with the next measurement. Two are long and go on where they were: the full
grid of `training_speed.py` (off a CPU), and, with `--hopper`, the training of eight seeds at the
released settings on that Minari dataset of hopper-medium.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from absl import app, flags

_OUT = flags.DEFINE_string('out', None, 'folder of the results', required=True)
_MINUTES = flags.DEFINE_float('minutes', None, 'stop after so long')
_ONLY = flags.DEFINE_list('only', None, 'these measurements, by name')
_HOPPER = flags.DEFINE_string('hopper', None, 'folder of the dataset of hopper-medium')
_DTQL = flags.DEFINE_string('reference_dtql', None, 'checkout of the released DTQL')
_DQL = flags.DEFINE_string('reference_dql', None, 'checkout of the released Diffusion-QL')

HERE = pathlib.Path(__file__).parent
GRACE_S = 30  # for a script to save what it has


def backend() -> str:
    """jax's platform, asked in a process of its own: a GPU's memory goes to whoever asks first."""
    command = [sys.executable, '-c', 'import jax; print(jax.default_backend())']
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def commands(out: pathlib.Path, platform: str) -> dict[str, list[str]]:
    """The measurements by name, the important ones first."""

    def script(name: str, *flags: str, result: str | None = None) -> list[str]:
        result = f'--out={out / f"{result or name}_{platform}.json"}'
        return [sys.executable, str(HERE / f'{name}.py'), result, *flags]

    references = {'reference_dtql': _DTQL.value, 'reference_dql': _DQL.value}
    given = [f'--{name}={folder}' for name, folder in references.items() if folder]
    accelerated = platform != 'cpu'
    seeds = ['--seeds=1,4,16'] if accelerated else []
    task = ['--env=hopper-medium', '--num_seeds=8'] if accelerated and _HOPPER.value else []
    data = [f'--dataset_path={_HOPPER.value}']
    found = {
        'against_diffusion_ql': script('against_diffusion_ql', *given, *seeds),
        'limit': script('limit'),
        'inference_speed': script('inference_speed'),
        'scaling': script('scaling'),
        'overlap': script('overlap', *task, *(data if task else [])),
        'loading': script('loading', *(data if _HOPPER.value else [])),
        'top_kernels': script('top_kernels'),
        'time_to_result': script('time_to_result'),
        'training_speed': script('training_speed', f'--grid={"full" if accelerated else "cpu"}'),
    }
    if accelerated:
        many = ('--seeds=16',)
        found['limit_16_seeds'] = script('limit', *many, result='limit_16_seeds')
        found['top_kernels_16_seeds'] = script('top_kernels', *many, result='top_kernels_16_seeds')
    if _HOPPER.value:
        run = out / f'hopper_medium_{platform}'
        resume = ['--resume'] if (run / 'config.json').exists() else []
        program = [sys.executable, str(HERE.parent / 'experiments' / 'run.py')]
        asked = ['--env=hopper-medium', '--num_seeds=8', f'--out={run}']
        found['hopper_medium'] = [*program, *asked, *data, *resume]
    return found


def run(command: list[str], until: float) -> bool:
    """Whether the command ended well before `until`; it is asked to save and stop then."""
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


def main(_: list[str]) -> None:
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    platform = backend()
    ledger = out / f'done_{platform}.json'
    done = json.loads(ledger.read_text()) if ledger.exists() else []
    until = time.monotonic() + 60 * _MINUTES.value if _MINUTES.value else float(2**30)
    os.environ.setdefault('PYTHONUNBUFFERED', '1')
    for name, command in commands(out, platform).items():
        if name in done or (_ONLY.value and name not in _ONLY.value):
            continue
        if time.monotonic() + GRACE_S > until:
            break
        print(f'== {name}', flush=True)
        if run(command, until - GRACE_S):
            done.append(name)
            ledger.write_text(json.dumps(done) + '\n')
        else:
            print(f'== {name} is not finished', flush=True)
    subprocess.run([sys.executable, str(HERE / 'charts.py'), f'--results={out}'], check=True)


if __name__ == '__main__':
    app.run(main)
