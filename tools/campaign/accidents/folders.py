"""What happens to the folder of a run, before, during and after it."""

import contextlib
import os
import pathlib
import shutil
import subprocess

from tools.campaign import victim
from tools.campaign.accidents import Outcome, Place, Skip, accident, check, either, expect
from tools.campaign.processes import Ended


def half_run(place: Place) -> pathlib.Path:
    """A run of two seeds that SIGTERM stopped after its first evaluation."""
    child = place.start_train()
    place.wait_for_rows(child, 2, 'eval')
    child.send(15)
    ended = child.wait()
    if ended.code != 143:
        raise Skip(f'the run could not be stopped: {ended}')
    return place.folder / 'run'


def under_way(place: Place, change, **options) -> Ended:
    """A run to whose folder something happens after its first evaluation."""
    child = place.start_train('--steps=60000', **options)
    place.wait_for_rows(child, 2, 'eval')
    change(place.folder / 'run')
    return child.wait(60)


def remove(folder: pathlib.Path) -> None:
    """Removes a folder into which another process writes."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)


def stopped(ended: Ended, *words: str) -> Outcome:
    """Refused before the end of training, which is hours away in a run of usual length."""
    early = '62,000/62,000' not in ended.out
    return check(expect(ended, 'refused', *words), (early, 'it trained on to the end'))


def readable(place: Place, run: str) -> tuple[bool, str]:
    """Whether the policies of a run can be evaluated."""
    ended = place.dtql('evaluate', f'--run={run}', '--episodes=1')
    return ended.verdict == 'done', f'its policies cannot be read ({ended.last[:80]})'


def path_of(place: Place, name: str) -> Outcome:
    """A run below a folder of that name: refused before it trains, or its policies are read."""
    (place.folder / name).mkdir()
    ended = place.train(folder=place.folder / name)
    if ended.verdict == 'refused':
        return expect(ended, 'refused')
    return check(expect(ended, 'done'), readable(place, str(place.folder / name / 'run')))


@accident
def brackets_in_path(place: Place) -> Outcome:
    """The working directory has [ and ] in its name."""
    return path_of(place, 'a[1]')


@accident
def backslash_in_path(place: Place) -> Outcome:
    """The working directory has a backslash in its name."""
    return path_of(place, 'a\\b')


@accident
def stars_in_path(place: Place) -> Outcome:
    """The working directory has *, ? and { } in its name."""
    return path_of(place, 'a*?{b,c}')


@accident
def strange_letters_in_path(place: Place) -> Outcome:
    """The working directory has blanks, %, quotes and letters beyond ASCII in its name."""
    return path_of(place, "a b%20'ü\u4e2d#")


@accident
def long_name(place: Place) -> Outcome:
    """The run folder's name is longer than a file system takes."""
    return expect(place.train(out='x' * 300), 'refused')


@accident
def dangling_link(place: Place) -> Outcome:
    """The run folder is a link to nothing."""
    (place.folder / 'run').symlink_to('nowhere')
    return expect(place.train(), 'refused', 'run')


@accident
def two_on_one_folder(place: Place) -> Outcome:
    """A second process resumes a run that a first one is still training."""
    first = place.start_train()
    place.wait_for_rows(first, 2)
    second = place.dtql('train', '--out=run', *victim.FLAGS, '--resume')
    ended = first.wait()
    rows = [(r['step'], r['seed']) for r in victim.rows(place.folder / 'run', 'metrics')]
    return check(
        expect(second, 'refused', str(first.pid)),
        (ended.verdict == 'done', f'the first one: {ended.last}'),
        (len(rows) == len(set(rows)), 'rows are doubled'),
    )


@accident
def lock_of_a_dead_process(place: Place) -> Outcome:
    """A run is killed and resumed: what it held is taken over."""
    child = place.start_train()
    place.wait_for_rows(child, 2)
    child.send(9)
    child.wait()
    return expect(place.dtql('train', '--out=run', *victim.FLAGS, '--resume'), 'done')


@accident
def folder_removed_under_way(place: Place) -> Outcome:
    """The run folder is removed while it trains."""
    return stopped(under_way(place, remove), 'run')


@accident
def folder_renamed_under_way(place: Place) -> Outcome:
    """The run folder is renamed while it trains."""
    ended = under_way(place, lambda run: run.rename(run.with_name('other')))
    return stopped(ended, 'run')


@accident
def log_removed_under_way(place: Place) -> Outcome:
    """metrics.jsonl is removed while it trains."""
    ended = under_way(place, lambda run: (run / 'metrics.jsonl').unlink())
    return stopped(ended, 'metrics.jsonl')


@accident
def checkpoints_removed_under_way(place: Place) -> Outcome:
    """checkpoints/ is removed while it trains: it stops, or ends with policies that can be read."""
    ended = under_way(place, lambda run: remove(run / 'checkpoints'))
    if ended.verdict == 'refused':
        return expect(ended, 'refused')
    return check(expect(ended, 'done'), readable(place, 'run'))


@accident
def folder_made_read_only(place: Place) -> Outcome:
    """The run folder and checkpoints/ lose their permission to write while it trains."""

    def forbid(run: pathlib.Path) -> None:
        for path in (run, run / 'checkpoints'):
            path.chmod(0o555)

    ended = under_way(place, forbid, obeying=True)
    for path in (place.folder / 'run', place.folder / 'run' / 'checkpoints'):
        path.chmod(0o755)
    return expect(ended, 'refused', 'permission')


@accident
def disk_full(place: Place) -> Outcome:
    """The disk is full during a save (a tmpfs of 16 MiB); once it has room, a resume ends well."""
    disk = place.folder / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'campaign', str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Skip('this process may not mount a tmpfs')
    try:
        return filled(place, disk)
    finally:
        subprocess.run(['umount', '-l', str(disk)], check=False)


def filled(place: Place, disk: pathlib.Path) -> Outcome:
    """A run on a disk that is filled under way and then emptied."""
    (place.folder / 'run').symlink_to(disk / 'run')
    child = place.start_train('--steps=20000', out=str(disk / 'run'))
    place.wait_for_rows(child, 2, 'eval')
    with contextlib.suppress(OSError), open(disk / 'ballast', 'wb', buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    ended = child.wait()
    (disk / 'ballast').unlink(missing_ok=True)
    again = place.dtql('train', f'--out={disk / "run"}', *victim.FLAGS, '--steps=20000', '--resume')
    return check(expect(ended, 'refused', 'space'), (again.verdict == 'done', again.last))


@accident
def checkpoints_lost(place: Place) -> Outcome:
    """checkpoints/ is gone and the logs have rows: a resume refuses and cuts nothing."""
    run = half_run(place)
    shutil.rmtree(run / 'checkpoints')
    before = (run / 'metrics.jsonl').read_bytes()
    ended = place.dtql('train', '--out=run', *victim.FLAGS, '--resume')
    kept = (run / 'metrics.jsonl').read_bytes() == before
    return check(expect(ended, 'refused', 'checkpoint'), (kept, 'the logs were cut'))


@accident
def both_checkpoints_damaged(place: Place) -> Outcome:
    """A file of each checkpoint is garbage: one line, and no tracebacks beside it."""
    run = half_run(place)
    for path in (run / 'checkpoints').glob('*/state/d/*'):
        path.write_bytes(os.urandom(path.stat().st_size))
    return expect(place.dtql('train', '--out=run', '--resume'), 'refused', 'checkpoint')


@accident
def table_cannot_be_written(place: Place) -> Outcome:
    """A folder of the name table.txt appears: one line at the end of good work."""
    ended = under_way(place, lambda run: (run / 'table.txt').mkdir())
    return expect(ended, 'refused', 'table.txt')


@accident
def read_only_parent(place: Place) -> Outcome:
    """The run folder is to be made where one may not write."""
    (place.folder / 'closed').mkdir(mode=0o555)
    return expect(place.train(out='closed/run', obeying=True), 'refused', 'closed')


@accident
def finished_run_read_only(place: Place) -> Outcome:
    """The policies of a finished run are evaluated in a folder where one may not write."""
    ended = place.train()
    if ended.verdict != 'done':
        return expect(ended, 'done')
    for path in (place.folder / 'run').rglob('*'):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (place.folder / 'run').chmod(0o555)
    ended = place.dtql('evaluate', '--run=run', '--episodes=1', obeying=True)
    return either(ended)


@accident
def file_size_limit(place: Place) -> Outcome:
    """A limit on the size of files (ulimit -f) is met at the end, by the picture of the curves."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    ended = place.train(before=limit)
    return expect(ended, 'refused', 'large')
