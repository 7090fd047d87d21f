"""Files of data and command lines that hypothesis makes up: no traceback, no hang, no crash.

Four subjects take turns, each with a batch of examples in a process of its own: files of D4RL and
OGBench, Minari sets, command lines. An example ends in a result whose numbers are finite or in one
line. An example that does not is stored in `failures/`, once for each place in the package and each
type of error, with the mutations that made it.
"""

import contextlib
import functools
import hashlib
import io
import json
import pathlib
import random
import shutil
import signal
import traceback
from collections.abc import Callable
from typing import Any

from tools.campaign import victim
from tools.campaign.processes import Child
from tools.campaign.store import Store

BATCH = 60  # examples of one process
EXAMPLE_S = 20  # for one example
BATCH_S = 240.0


class Hangs(Exception):
    """An example takes longer than its time limit."""


class Reached(BaseException):
    """The command line got as far as the work itself."""


def campaign(work: pathlib.Path, store: Store, minutes: float, seed: int) -> None:
    """Tries examples for so many minutes of time spent, those of earlier calls included."""
    failures = store.path.parent / 'failures'
    failures.mkdir(exist_ok=True)
    number = 0
    while sum(record['seconds'] for record in store.records.values()) < 60 * minutes:
        for subject in SUBJECTS:
            name = f'{subject} {number}'
            if name not in store.records:
                store.add(name, batch(work, failures, subject, f'{seed}/{number}'))
        number += 1
    tried = sum(record['tried'] for record in store.records.values())
    print(f'{tried} examples: {dict(store.tally())}')


def batch(work: pathlib.Path, failures: pathlib.Path, subject: str, seed: str) -> dict[str, Any]:
    """One batch; its record."""
    folder = work / subject
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    told = folder / 'told.json'
    child = Child(
        functools.partial(examples, subject, seed, failures), work / f'{subject}-log', folder
    )
    ended = child.wait(BATCH_S)
    seconds = round(ended.seconds, 1)
    tried = json.loads(told.read_text()) if told.exists() else {'tried': 0, 'failures': {}}
    found = tried['failures']
    if ended.verdict != 'done':  # a crash, or a hang that no exception ends
        name = f'{subject}-{ended.verdict}-{seed.replace("/", "-")}'.replace(' ', '-')
        shutil.copytree(folder, failures / name, dirs_exist_ok=True)
        found = {**found, f'{ended.verdict} {ended.last}': name}
    verdict = 'none' if not found else next(iter(found)).split()[0].removesuffix(':')
    text = '; '.join(f'{what} ({where})' for what, where in found.items())
    return {'verdict': verdict, 'text': text, 'tried': tried['tried'], 'seconds': seconds}


def examples(subject: str, seed: str, failures: pathlib.Path) -> int:
    """Tries a batch of examples in this process, in the working directory."""
    import hypothesis

    strategy, attempt = SUBJECTS[subject]()
    told: dict[str, Any] = {'tried': 0, 'failures': {}}
    signal.signal(signal.SIGALRM, _hangs)

    @hypothesis.seed(random.Random(f'{subject}/{seed}').getrandbits(64))
    @hypothesis.settings(
        max_examples=BATCH, deadline=None, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def one(example: Any) -> None:
        pathlib.Path('example.json').write_text(json.dumps(example, default=repr))
        signal.alarm(EXAMPLE_S)
        trace = ''
        try:
            wrong = attempt(example)
        except Exception as error:
            wrong, trace = failure(error), traceback.format_exc()
        finally:
            signal.alarm(0)
        told['tried'] += 1
        if wrong and wrong not in told['failures']:
            name = f'{subject}-{hashlib.sha256(wrong.encode()).hexdigest()[:8]}'
            told['failures'][wrong] = name
            if not (failures / name).exists():
                keep(failures / name, f'{wrong}\n\nseed {seed}\n\n{trace}')
        pathlib.Path('told.json').write_text(json.dumps(told))

    one()
    return 0


def keep(to: pathlib.Path, text: str) -> None:
    """Stores the example that failed: its files, its mutations, and a text about the error."""
    to.mkdir(exist_ok=True)
    for name in ('example.json', 'data.hdf5', 'data.npz'):
        if pathlib.Path(name).exists():
            shutil.copy(name, to)
    if pathlib.Path('set').exists():
        shutil.copytree('set', to / 'set', dirs_exist_ok=True)
    (to / 'error.txt').write_text(text)


def failure(error: BaseException) -> str:
    """A name for an error: its type and the last place of the package that it passed."""
    places = [
        f'{pathlib.Path(frame.filename).name}:{frame.name}'
        for frame in traceback.extract_tb(error.__traceback__)
        if 'dtql_jax' in frame.filename
    ]
    kind = 'hang' if isinstance(error, Hangs) else 'traceback'
    return f'{kind} {type(error).__name__} in {places[-1] if places else "the campaign"}'


def _hangs(*_: object) -> None:
    raise Hangs


# The subjects: each returns a strategy and a function that tries an example and returns what is
# wrong with it.

Attempt = Callable[[Any], str | None]


def loads(env: str, path: str) -> str | None:
    """Reads data as a run does."""
    import numpy as np

    from dtql_jax.data.load import load, with_dataset
    from dtql_jax.tasks.env import check_env
    from dtql_jax.tasks.registry import TASKS, resolve
    from dtql_jax.types import UserError

    pathlib.Path('cache').mkdir(exist_ok=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            task = with_dataset(TASKS[env], path) if env in TASKS else resolve(env)[0]
            data = load(task)
            check_env(task, data.spec)
    except UserError as error:
        return None if '\n' not in str(error) else 'lines: a message of several lines'
    for name in ('obs', 'action', 'reward', 'mask', 'next_obs'):
        array = np.asarray(getattr(data.transitions, name))
        if array.dtype != np.float32 or not np.isfinite(array).all() or not array.size:
            return f'wrong: {name} is not finite float32'
    return None


def d4rl() -> tuple[Any, Attempt]:
    """Files of D4RL."""
    import h5py

    from tools.campaign import mutations, toys

    def attempt(example: Any) -> str | None:
        path = pathlib.Path('data.hdf5')
        with h5py.File(path, 'w') as file:
            mutations.write_hdf5(file, mutations.fields_of(example[0], toys.arrays()))
        mutations.edit_bytes(path, example[1])
        return loads('walk', str(path.absolute()))

    return mutations.changes, attempt


def ogbench() -> tuple[Any, Attempt]:
    """Files of OGBench."""
    from tools.campaign import mutations, toys

    def attempt(example: Any) -> str | None:
        path = pathlib.Path('data.npz')
        mutations.write_npz(path, mutations.fields_of(example[0], toys.arrays()))
        mutations.edit_bytes(path, example[1])
        return loads('walk', str(path.absolute()))

    return mutations.changes, attempt


def minari() -> tuple[Any, Attempt]:
    """Minari sets."""
    import h5py
    import numpy as np

    from tools.campaign import mutations
    from tools.campaign.accidents import recorded

    recorded.write(pathlib.Path('whole').absolute())
    whole = pathlib.Path('whole/me/walk-v0')

    def attempt(example: Any) -> str | None:
        shutil.rmtree('set', ignore_errors=True)
        shutil.copytree(whole, 'set')
        on_json, on_episodes, on_bytes = example
        mutations.edit_json(pathlib.Path('set/data/metadata.json'), on_json)
        with h5py.File('set/data/main_data.hdf5', 'a') as file:
            for index, part, (how, *values) in on_episodes:
                group = file.get(f'episode_{index}')
                if group is None or group.get(part) is None:  # or a link to nothing, by now
                    continue
                array = np.zeros(3) if isinstance(group[part], h5py.Group) else group[part][()]
                del group[part]
                if how != 'drop':
                    change = [(how, part, *values)]
                    mutations.write_hdf5(group, mutations.fields_of(change, {part: array}))
        mutations.edit_bytes(pathlib.Path('set/data/main_data.hdf5'), on_bytes)
        return loads(f'minari:{pathlib.Path("set").absolute()}', '')

    return mutations.minari_changes, attempt


def cli() -> tuple[Any, Attempt]:
    """Command lines, which end where the work would begin."""
    from dtql_jax.cli import collect, evaluate, plot, train
    from dtql_jax.cli import list as listing
    from dtql_jax.cli.main import main
    from dtql_jax.collect import write
    from dtql_jax.data import load
    from dtql_jax.runs import policy, run
    from tools.campaign import mutations

    def reached(*_: object, **__: object) -> None:
        raise Reached

    for module, name in (
        (run, '_load'), (policy, 'Run'), (write, 'collect'), (load, 'load'),
    ):  # fmt: skip
        assert hasattr(module, name)
        setattr(module, name, reached)
    shutil.copy(victim.AGENT, 'line.py')
    flags, _ = train.define('dtql')
    names = {'train': list(flags)}
    for module in (evaluate, plot, collect, listing):
        names[module.__name__.rpartition('.')[2]] = list(module.FLAGS)

    def attempt(example: Any) -> str | None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(['dtql', *example])
            except Reached:
                return None
            except SystemExit as left:
                return f'exit: SystemExit({left.code!r})'
        lines = err.getvalue().splitlines()
        if code == 2 and (len(lines) != 1 or not lines[0].startswith('error: ')):
            return f'lines: {len(lines)} lines on standard error'
        return None if code in (0, 1, 2) else f'exit: code {code}'

    return mutations.command_line(names), attempt


SUBJECTS: dict[str, Callable[[], tuple[Any, Attempt]]] = {
    'd4rl': d4rl, 'ogbench': ogbench, 'minari': minari, 'cli': cli,
}  # fmt: skip
