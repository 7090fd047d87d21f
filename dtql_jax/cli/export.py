"""Exports a trained policy for programs without this package.

  dtql export --run=runs/x --out=policy
  dtql export --run=runs/x --out=policy --format=onnx --which=best --seed=0

--out is a new folder. It receives the policy with its noise as an input, the policy without chance,
a description of both, and a model card. The formats:

  stablehlo  for jax on a CPU, GPU or TPU, for any number of observations at once
  onnx       for ONNX runtimes, in any language
  numpy      for a program that needs NumPy alone

Exit codes: 0 done; 2 a mistake in a flag or an error of the machine, which one line explains.
"""

from collections.abc import Sequence

from absl import flags

from dtql_jax.cli.flags import define_whole, run_command
from dtql_jax.types import UserError, user_path

FLAGS = flags.FlagValues()
flags.DEFINE_string('run', None, 'the run folder', FLAGS)
flags.DEFINE_string('out', None, 'the folder to write, which must not exist', FLAGS)
flags.DEFINE_string('format', 'stablehlo', "'stablehlo', 'onnx' or 'numpy'", FLAGS)
define_whole('seed', None, 'the training seed (default: the first)', FLAGS)
flags.DEFINE_string('which', 'last', "the policy: 'last' or 'best'", FLAGS)
flags.DEFINE_string('variant', None, "the lanes, such as 'dtql' or 'clone'", FLAGS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exports and prints what was written; returns the exit code."""
    return run_command(export, FLAGS, __doc__, argv)


def export(asked: flags.FlagValues) -> None:
    """Exports the policy that the flags ask for."""
    for name, what in (('run', 'no run to export: name its folder'), ('out', 'no folder to write')):
        if not getattr(asked, name):
            raise UserError(f'{what} as --{name}=DIR')
    # Here and not above: --help needs none of it.
    from dtql_jax.runs.export.write import export as write

    folder = write(
        user_path('run', asked.run),
        user_path('out', asked.out),
        asked.format,
        asked.seed,
        asked.which,
        asked.variant,
    )
    print(f'{folder}:')
    for path in sorted(folder.iterdir()):
        print(f'  {path.name:<26} {path.stat().st_size:>12,} bytes')
