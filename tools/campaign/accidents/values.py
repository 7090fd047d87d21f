"""Data whose numbers are not what they seem."""

import functools
import http.server
import json
import pathlib
import threading
from collections.abc import Callable

import h5py
import numpy as np

from tools.campaign import toys
from tools.campaign.accidents import Outcome, Place, accident, check, expect
from tools.campaign.processes import Ended


def card(place: Place, path: str, env: str = 'walk', **options) -> tuple[Ended, dict]:
    """The card of a file as the data of a task, read in a process of its own; what was said."""
    (place.folder / 'card.json').unlink(missing_ok=True)

    def work() -> int:
        from dtql_jax.data.card import format_card
        from dtql_jax.data.load import load, with_dataset
        from dtql_jax.tasks.registry import TASKS

        with refusing():
            found = load(with_dataset(TASKS[env], path)).card
            print(format_card(found))
            pathlib.Path('card.json').write_text(json.dumps(found, default=str))
            return 0
        return 2

    ended = place.call(work, **options)
    to = place.folder / 'card.json'
    return ended, json.loads(to.read_text()) if to.exists() else {}


class refusing:  # used like `contextlib.suppress`
    """Inside, a UserError becomes a line on standard error, as at the command line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        import sys

        from dtql_jax.types import UserError

        if isinstance(error, UserError):
            print(f'error: {error}', file=sys.stderr)
        return isinstance(error, UserError)


def hdf5(place: Place, **changes) -> str:
    """A D4RL file with some fields changed, or left out where they are None."""
    fields = toys.arrays() | changes
    path = place.folder / 'data.hdf5'
    toys.write_hdf5(path, {k: v for k, v in fields.items() if v is not None})
    return str(path)


@accident
def reward_beyond_float32(place: Place) -> Outcome:
    """A reward of 1e39 in float64."""
    rewards = toys.arrays()['rewards']
    rewards[7] = 1e39
    return expect(card(place, hdf5(place, rewards=rewards))[0], 'refused', 'reward')


@accident
def time_stamps(place: Place) -> Outcome:
    """A column of time stamps (1.7e9) whose distinct values are equal in float32."""
    obs = toys.arrays()['observations'].astype(np.float64)
    obs[:, 1] = 1.7e9 + np.arange(len(obs))
    ended, _ = card(place, hdf5(place, observations=obs, next_observations=None))
    return expect(ended, 'done', 'float32')


@accident
def no_ends(place: Place) -> Outcome:
    """`timeouts` all false and no `next_observations`: cut by the horizon, and said."""
    changes = {'timeouts': np.zeros(200, bool), 'next_observations': None}
    ended, found = card(place, hdf5(place, **changes))
    episodes = found.get('episodes', 0)
    return check(expect(ended, 'done'), (episodes > 1, f'{episodes} episode, without a remark'))


@accident
def ogbench_with_next_observations(place: Place) -> Outcome:
    """An OGBench npz with next_observations, rewards and masks keeps every row."""
    fields = toys.arrays()
    masks = np.ones(200, np.float32)
    masks[9::10] = 0
    np.savez(
        place.folder / 'data.npz',
        observations=fields['observations'],
        next_observations=fields['next_observations'],
        actions=fields['actions'],
        terminals=fields['timeouts'].astype(np.float32),
        rewards=fields['rewards'],
        masks=masks,
    )
    ended, found = card(place, str(place.folder / 'data.npz'))
    rows = found.get('transitions')
    return check(expect(ended, 'done'), (rows == 200, f'{rows} of 200 rows'))


@accident
def linked_file_rewritten(place: Place) -> Outcome:
    """A D4RL file of external links whose target is rewritten: the new data count."""
    target = place.folder / 'target.hdf5'
    toys.write_hdf5(target, toys.arrays())
    with h5py.File(place.folder / 'links.hdf5', 'w') as file:
        for name in toys.arrays():
            file[name] = h5py.ExternalLink('target.hdf5', name)
    return rewritten(place, 'links.hdf5', target)


@accident
def virtual_source_rewritten(place: Place) -> Outcome:
    """A D4RL file of virtual datasets whose source is rewritten: the new data count."""
    target = place.folder / 'target.hdf5'
    toys.write_hdf5(target, toys.arrays())
    with h5py.File(place.folder / 'virtual.hdf5', 'w') as file:
        for name, array in toys.arrays().items():
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[:] = h5py.VirtualSource('target.hdf5', name, array.shape, array.dtype)
            file.create_virtual_dataset(name, layout)
    return rewritten(place, 'virtual.hdf5', target)


def rewritten(place: Place, name: str, target: pathlib.Path) -> Outcome:
    """The file is read, its target rewritten, and the file read again."""
    path = str(place.folder / name)
    ended, before = card(place, path)
    fields = toys.arrays()
    toys.write_hdf5(target, fields | {'rewards': fields['rewards'] + 1})
    ended, after = card(place, path)
    if ended.verdict == 'refused':
        return expect(ended, 'refused', 'link')
    new = before.get('fingerprint') != after.get('fingerprint')
    return check(expect(ended, 'done'), (new, 'the old data were served'))


class Server(http.server.BaseHTTPRequestHandler):
    """Answers a request with `content` and status 200."""

    content = b''

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header('Content-Length', str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


def serving(content: bytes, work: Callable[[str], int]) -> int:
    """Calls `work` with the address of a server of that content."""
    handler = type('Handler', (Server,), {'content': content})
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return work(f'http://127.0.0.1:{server.server_port}/data')
        finally:
            server.shutdown()


def login_page(place: Place, suffix: str) -> Outcome:
    """A download answered by a page of a proxy, and then by the file."""

    def fetch(address: str) -> int:
        from dtql_jax.data.download import local_file

        with refusing():
            local_file(address + suffix)
            return 0
        return 2

    variables = {
        'D4RL_DATASET_DIR': str(place.folder), 'OGBENCH_DATASET_DIR': str(place.folder),
        'no_proxy': '127.0.0.1',
    }  # fmt: skip
    page = functools.partial(serving, b'<html>Please log in</html>', fetch)
    ended = place.call(page, variables=variables)
    kept = (place.folder / f'data{suffix}').exists()
    good = place.folder / f'good{suffix}'
    np.savez(good, a=np.ones(3)) if suffix == '.npz' else toys.write_hdf5(good, toys.arrays())
    again = place.call(functools.partial(serving, good.read_bytes(), fetch), variables=variables)
    return check(
        expect(ended, 'refused'), (not kept, 'the page was kept'),
        (again.verdict == 'done', f'the file itself: {again.last}'),
    )  # fmt: skip


@accident
def login_page_for_hdf5(place: Place) -> Outcome:
    """A proxy's login page with status 200 in the place of an hdf5 file."""
    return login_page(place, '.hdf5')


@accident
def login_page_for_npz(place: Place) -> Outcome:
    """A proxy's login page with status 200 in the place of an npz file."""
    return login_page(place, '.npz')


@accident
def cache_folder_of_other_people(place: Place) -> Outcome:
    """DTQL_DATA_CACHE names a folder that holds other people's folders."""
    import os

    cache = place.folder / 'mine'
    for name in ('photos', '.git', 'deadbeefdeadbeefdeadbeefdeadbeef'):
        (cache / name).mkdir(parents=True)
        (cache / name / 'entry.json').write_text('{}')
        os.utime(cache / name, (0, 0))
    ended, _ = card(place, hdf5(place), variables={'DTQL_DATA_CACHE': str(cache)})
    gone = [
        n for n in ('photos', '.git', 'deadbeef' * 4) if not (cache / n / 'entry.json').exists()
    ]
    return check(expect(ended, 'done'), (not gone, f'removed {gone}'))


@accident
def data_larger_than_memory(place: Place) -> Outcome:
    """An hdf5 file that claims more rows than the memory holds."""
    import resource

    path = place.folder / 'data.hdf5'
    with h5py.File(path, 'w') as file:
        for name, array in toys.arrays().items():
            shape = (2 * 10**9, *array.shape[1:])
            file.create_dataset(name, shape, array.dtype, chunks=(10**6, *shape[1:]))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    return expect(card(place, str(path), before=limit)[0], 'refused', 'memory')


@accident
def file_forbidden(place: Place) -> Outcome:
    """A data file that one may not read: the line says so, and does not advise to remove it."""
    path = hdf5(place)
    pathlib.Path(path).chmod(0)
    ended, _ = card(place, path, obeying=True)
    kind = 'truncated' not in ended.last
    return check(expect(ended, 'refused', 'permission'), (kind, 'it is called truncated'))


@accident
def file_locked(place: Place) -> Outcome:
    """A data file that another process writes: the line says so."""
    path = hdf5(place)

    def hold() -> int:
        import time

        with h5py.File(path, 'a'):
            time.sleep(20)
        return 0

    holder = place.start(hold)
    import time

    time.sleep(1)
    ended, _ = card(place, path)
    holder.send(9)
    holder.wait()
    kind = 'truncated' not in ended.last
    return check(expect(ended, 'refused'), (kind, 'it is called truncated'))


@accident
def file_truncated(place: Place) -> Outcome:
    """A data file that is cut short."""
    path = pathlib.Path(hdf5(place))
    path.write_bytes(path.read_bytes()[:2000])
    return expect(card(place, str(path))[0], 'refused', 'truncated')
