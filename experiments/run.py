"""Trains an offline-RL agent on one task, many seeds at once in one compiled program.

  python experiments/run.py                                 # a demonstration, no download
  python experiments/run.py --env=antmaze-large-diverse --num_seeds=5
  python experiments/run.py --env=hopper-medium --set alpha=2.0 --set lr_decay=false
  python experiments/run.py --out=runs/x --resume           # go on where a run was stopped
  python experiments/run.py --list                          # tasks, agents and where they come from
  python experiments/run.py --env=hopper-medium --dry_run   # the plan, and nothing else

A run writes a folder: config.json, metrics.jsonl, eval.jsonl, curves.png, table.txt, checkpoints/.
Ctrl-C or SIGTERM leave a checkpoint; --resume continues bit for bit.

Exit codes: 0 done; 1 every seed diverged; 2 a mistake in what was asked for, told in one line;
130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import sys

from absl import flags, logging

from dtql_jax.command_line import define_whole, run_script

ASKED = ('env', 'agent', 'num_seeds', 'seed', 'steps', 'pretrain_steps', 'batch_size',
         'eval_every', 'eval_episodes', 'source', 'dataset_path')  # fmt: skip

FLAGS = flags.FlagValues()
TEXTS = {
    'env': ('pointmaze-umaze', "task, or 'minari:<dataset id>' for your own data"),
    'agent': ('dtql', 'algorithm'),
    'source': (None, "where the task's data come from: minari, d4rl or ogbench (see --list)"),
}
WHOLE = {
    'num_seeds': (2, 'seeds trained at once'),
    'seed': (0, 'the first seed; the others follow it'),
    'steps': (None, 'updates of the main phase'),
    'pretrain_steps': (None, 'updates before the main phase'),
    'batch_size': (None, 'transitions per update'),
    'eval_every': (None, 'updates between evaluations'),
    'eval_episodes': (None, 'episodes per evaluation and seed'),
    'eval_envs': (None, 'simulators side by side (speed only, no result)'),
}
for name, (default, text) in TEXTS.items():
    flags.DEFINE_string(name, default, text, FLAGS)
for name, (default, text) in WHOLE.items():
    define_whole(name, default, text, FLAGS)
flags.DEFINE_string(
    'dataset_path', None, 'data to use instead: Minari folder, D4RL .hdf5 or OGBench .npz', FLAGS
)
flags.DEFINE_string('out', None, 'run folder (default: runs/<env>-<agent>)', FLAGS)
flags.DEFINE_bool('resume', False, 'go on with the run in --out', FLAGS)
flags.DEFINE_multi_string(
    'set', [], "name=value: a setting of the agent, or of a maze's goal; may be repeated", FLAGS
)
flags.DEFINE_bool(
    'overlap',
    None,
    'train on while episodes are played (default: not on a CPU; speed only, no result)',
    FLAGS,
)
flags.DEFINE_list('log_to', [], 'also log to: wandb, tensorboard', FLAGS)
flags.DEFINE_bool('dry_run', False, 'print the plan and stop', FLAGS)
flags.DEFINE_bool('list', False, 'list tasks and agents and stop', FLAGS)


def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit code."""
    return run_script(train, FLAGS, __doc__, argv)


def train(asked: flags.FlagValues) -> int:
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    # Here and not above: --help needs none of it.
    from dtql_jax import configs, listing, runner

    if asked.list:
        print(listing.text())
        return 0
    request = {name: asked[name].value for name in ASKED if asked[name].present}
    if asked.set:
        request['settings'] = configs.parse_settings(asked.set)
    try:
        result = runner.run(
            request,
            out=asked.out,
            resume=asked.resume,
            eval_envs=asked.eval_envs,
            log_to=asked.log_to,
            overlap=asked.overlap,
            dry_run=asked.dry_run,
        )
    except runner.Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signal
    return 1 if result and result.failed else 0


if __name__ == '__main__':
    sys.exit(main())
