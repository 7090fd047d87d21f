"""Minari sets by their paths."""

import functools
import shutil

from tools.campaign.accidents import Outcome, Place, accident, expect
from tools.campaign.accidents.recorded import write


def moved(place: Place, name: str) -> Outcome:
    """A set by its relative path; the run is stopped and resumed from another folder."""
    root = place.folder / 'sets'
    place.call(functools.partial(write, root))
    shutil.copytree(root / 'me' / 'walk-v0', place.folder / name)
    ended = place.train(f'--env=minari:{name}')
    if ended.verdict != 'done':
        return expect(ended, 'done')
    (place.folder / 'elsewhere').mkdir()
    run = f'--run={place.folder / "run"}'
    again = place.dtql('evaluate', run, '--episodes=1', folder=place.folder / 'elsewhere')
    return expect(again, 'done')


@accident
def relative_set(place: Place) -> Outcome:
    """`minari:` with a relative path, and an evaluation from another folder."""
    return moved(place, 'own')


@accident
def blanks_in_set(place: Place) -> Outcome:
    """`minari:` with a path that has blanks, and an evaluation from another folder."""
    return moved(place, 'my own set')


@accident
def home_in_set(place: Place) -> Outcome:
    """`minari:~/...`."""
    root = place.folder / 'sets'
    place.call(functools.partial(write, root))
    variables = {'HOME': str(place.folder)}
    return expect(place.train('--env=minari:~/sets/me/walk-v0', variables=variables), 'done')
