"""Trains an offline-RL agent on one task, many seeds at once in one compiled program.

  python experiments/run.py                                 # a demonstration, no download
  python experiments/run.py --env=antmaze-large-diverse --num_seeds=5
  python experiments/run.py --env=hopper-medium --set alpha=2.0 --set lr_decay=false
  python experiments/run.py --out=runs/x --resume           # go on where a run was stopped
  python experiments/run.py --list                          # tasks, agents and where they come from
  python experiments/run.py --env=hopper-medium --dry_run   # the plan, and nothing else

A run writes a folder: config.json, metrics.jsonl, eval.jsonl, curves.png, table.txt, checkpoints/.
Ctrl-C or SIGTERM leave a checkpoint; --resume continues bit for bit.
"""

import sys

from absl import app, flags, logging

from dtql_jax.types import UserError

ASKED = ('env', 'agent', 'num_seeds', 'seed', 'steps', 'pretrain_steps', 'batch_size',
         'eval_every', 'eval_episodes', 'dataset_path')  # fmt: skip

flags.DEFINE_string('env', 'pointmaze-umaze', "task, or 'minari:<dataset id>' for your own data")
flags.DEFINE_string('agent', 'dtql', 'algorithm')
flags.DEFINE_integer('num_seeds', 2, 'seeds trained at once')
flags.DEFINE_integer('seed', 0, 'the first seed; the others follow it')
flags.DEFINE_integer('steps', None, 'updates of the main phase')
flags.DEFINE_integer('pretrain_steps', None, 'updates before the main phase')
flags.DEFINE_integer('batch_size', None, 'transitions per update')
flags.DEFINE_integer('eval_every', None, 'updates between evaluations')
flags.DEFINE_integer('eval_episodes', None, 'episodes per evaluation and seed')
flags.DEFINE_integer('eval_envs', None, 'simulators side by side (speed only, no result)')
flags.DEFINE_string('dataset_path', None, 'folder of a Minari dataset to use instead')
flags.DEFINE_string('out', None, 'run folder (default: runs/<env>-<agent>)')
flags.DEFINE_bool('resume', False, 'go on with the run in --out')
flags.DEFINE_multi_string('set', [], 'name=value: any setting of the agent; may be repeated')
flags.DEFINE_list('log_to', [], 'also log to: wandb, tensorboard')
flags.DEFINE_bool('dry_run', False, 'print the plan and stop')
flags.DEFINE_bool('list', False, 'list tasks and agents and stop')
FLAGS = flags.FLAGS


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    # Here and not above: --help needs none of it.
    from dtql_jax import configs, listing, runner
    from dtql_jax.evaluation import Stopped

    try:
        if argv[1:]:
            raise UserError(f'{argv[1]!r} is no flag: flags begin with --, see --help')
        if FLAGS.list:
            print(listing.text())
            return 0
        asked = {name: FLAGS[name].value for name in ASKED if FLAGS[name].present}
        if FLAGS.set:
            asked['settings'] = configs.parse_settings(FLAGS.set)
        runner.run(
            asked,
            out=FLAGS.out,
            resume=FLAGS.resume,
            eval_envs=FLAGS.eval_envs,
            log_to=FLAGS.log_to,
            dry_run=FLAGS.dry_run,
        )
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except Stopped:
        print('stopped, with a checkpoint: go on with --resume', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    app.run(main)
