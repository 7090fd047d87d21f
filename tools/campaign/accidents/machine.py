"""Machines without a home, a user, memory or permissions; and x64."""

import functools
import json
import os
import pathlib

from tools.campaign import victim
from tools.campaign.accidents import SHORT, Outcome, Place, accident, check, either, expect

HOMELESS = """
import os, pwd
os.environ.pop('HOME', None)
def nobody(uid):
    raise KeyError(f'getpwuid(): uid not found: {uid}')
pwd.getpwuid = nobody
import sys
from dtql_jax.cli.main import main
sys.exit(main(['dtql', *ARGUMENTS]))
"""


def homeless(place: Place, *arguments: str) -> Outcome:
    """The command in a process whose user has no home and no name."""
    code = HOMELESS.replace('ARGUMENTS', repr(list(arguments)))
    caches = ('JAX_COMPILATION_CACHE_DIR', 'DTQL_DATA_CACHE', 'MINARI_DATASETS_PATH')
    ended = place.script(code, variables=dict.fromkeys((*caches, 'MPLCONFIGDIR')))
    return either(ended)


@accident
def no_home_help(place: Place) -> Outcome:
    """`dtql list` for a uid without HOME and passwd entry, as in containers."""
    return homeless(place, 'list')


@accident
def no_home_import(place: Place) -> Outcome:
    """Every module is imported for a uid without HOME and passwd entry."""
    code = HOMELESS.partition('import sys')[0] + (
        'import dtql_jax\nfor name in dtql_jax.__all__:\n    getattr(dtql_jax, name)\n'
    )
    caches = ('JAX_COMPILATION_CACHE_DIR', 'DTQL_DATA_CACHE', 'MINARI_DATASETS_PATH')
    return expect(place.script(code, variables=dict.fromkeys(caches)), 'done')


@accident
def no_home_train(place: Place) -> Outcome:
    """`dtql train` for a uid without HOME and passwd entry: it trains, or says what it needs."""
    data = f'--dataset_path={place.data}'
    return homeless(place, 'train', '--env=hopper-medium-v2', data, '--dry_run')


def without_permission(place: Place, variable: str) -> Outcome:
    """A run with a cache in a folder where one may not write."""
    closed = place.folder / 'closed'
    closed.mkdir(mode=0o555)
    variables = {variable: str(closed / 'cache')}
    return expect(place.train(obeying=True, variables=variables), 'done')


@accident
def data_cache_forbidden(place: Place) -> Outcome:
    """DTQL_DATA_CACHE lies where one may not write: the run goes on."""
    return without_permission(place, 'DTQL_DATA_CACHE')


@accident
def compilation_cache_forbidden(place: Place) -> Outcome:
    """The compilation cache lies where one may not write: the run goes on."""
    closed = place.folder / 'closed'
    closed.mkdir(mode=0o555)

    def point() -> None:
        import jax

        jax.config.update('jax_compilation_cache_dir', str(closed / 'cache'))

    return expect(place.train(obeying=True, before=point), 'done')


@accident
def sets_folder_forbidden(place: Place) -> Outcome:
    """The folder of Minari's sets is one that one may not enter."""
    closed = place.folder / 'closed'
    closed.mkdir(mode=0)
    variables = {'MINARI_DATASETS_PATH': str(closed)}
    ended = place.dtql(
        'train', '--env=minari:me/x-v0', '--dry_run', obeying=True, variables=variables
    )
    return expect(ended, 'refused', 'permission')


@accident
def run_folder_forbidden(place: Place) -> Outcome:
    """`dtql evaluate` and a resume of a run that one may not read."""
    (place.folder / 'run').mkdir()
    (place.folder / 'run' / 'config.json').write_text('{}')
    (place.folder / 'run').chmod(0)
    ended = place.dtql('evaluate', '--run=run', obeying=True)
    again = place.dtql('train', '--out=run', '--resume', obeying=True)
    return check(
        expect(ended, 'refused', 'permission'),
        (again.verdict == 'refused', f'resume: {again.verdict} {again.last[:80]}'),
    )


@accident
def plots_of_forbidden_runs(place: Place) -> Outcome:
    """`dtql plot` of logs that one may not read."""
    (place.folder / 'run').mkdir()
    (place.folder / 'run' / 'eval.jsonl').write_text('')
    (place.folder / 'run' / 'eval.jsonl').chmod(0)
    ended = place.dtql('plot', '--runs=run', '--out=x.png', obeying=True)
    return expect(ended, 'refused')


@accident
def plot_into_a_closed_folder(place: Place) -> Outcome:
    """`dtql plot --out` where one may not write."""
    place.train()
    (place.folder / 'closed').mkdir(mode=0o555)
    ended = place.dtql('plot', '--runs=run', '--out=closed/x.png', obeying=True)
    return expect(ended, 'refused', 'closed')


def wide() -> None:
    """Sets jax's x64 flag, as the variable JAX_ENABLE_X64 does in a process of its own."""
    import jax

    jax.config.update('jax_enable_x64', True)


@accident
def x64_training(place: Place) -> Outcome:
    """JAX_ENABLE_X64=1 while training: the same numbers, or refused, or in config.json."""
    train = functools.partial(place.train, *SHORT)
    place.start_train(*SHORT, out='usual').wait()
    ended = train(before=wide)
    if ended.verdict == 'refused':
        return expect(ended, 'refused', 'x64')
    same = all(
        victim.rows(place.folder / 'run', log) == victim.rows(place.folder / 'usual', log)
        for log in victim.LOGS
    )
    config = (place.folder / 'run' / 'config.json').read_text()
    said = 'x64' in config or 'x64' in ended.out
    return check(expect(ended, 'done'), (same or said, 'other numbers without a word'))


@accident
def x64_evaluation(place: Place) -> Outcome:
    """A good run is evaluated under JAX_ENABLE_X64=1: its checkpoints are not called damaged."""
    place.train()
    ended = place.dtql('evaluate', '--run=run', '--episodes=1', before=wide)
    healthy = 'damaged' not in ended.out + ended.err
    if ended.verdict == 'refused':
        return check(expect(ended, 'refused', 'x64'), (healthy, 'called damaged'))
    return check(expect(ended, 'done'), (healthy, 'called damaged'))


@accident
def no_temporary_folder(place: Place) -> Outcome:
    """TMPDIR names a folder that does not exist."""
    variables = {'TMPDIR': str(place.folder / 'nowhere')}
    ended = place.train(variables=variables)
    return either(ended)


@accident
def working_directory_gone(place: Place) -> Outcome:
    """The working directory was removed before the command began."""
    here = place.folder / 'here'
    here.mkdir()
    ended = place.dtql('train', '--env=walk', folder=here, before=here.rmdir)
    return expect(ended, 'refused')


@accident
def success_under_another_key(place: Place) -> Outcome:
    """A simulator reports `is_success`: episodes that succeed score 1, not 0."""
    ended = place.train('--env=succeeds')
    rows = victim.rows(place.folder / 'run', 'eval')
    scores = [row.get('eval/success') for row in rows]
    return check(
        expect(ended, 'done'), (scores[-1:] == [1.0], f'eval/success is {json.dumps(scores)}')
    )


@accident
def unwritable_home(place: Place) -> Outcome:
    """HOME is a folder where one may not write, and no cache has another place."""
    home = place.folder / 'home'
    home.mkdir(mode=0o555)

    def forget() -> None:
        for name in ('DTQL_DATA_CACHE', 'MPLCONFIGDIR', 'MINARI_DATASETS_PATH'):
            os.environ.pop(name, None)
        assert pathlib.Path('~').expanduser() == home

    ended = place.train(obeying=True, before=forget, variables={'HOME': str(home)})
    return expect(ended, 'done')
