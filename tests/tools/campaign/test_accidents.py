"""How accidents are judged; the accidents themselves are no tests."""

import importlib
import pathlib

import pytest

from tools.campaign import accidents
from tools.campaign.accidents import Outcome, Skip, check, either, expect, meet
from tools.campaign.processes import Ended

REFUSED = Ended(2, '', 'error: x.npz is locked\n', 1.0)


def test_expect__the_end_and_the_words():
    assert expect(REFUSED, 'refused', 'LOCKED') == Outcome(
        'as promised', 'error: x.npz is locked', 2
    )
    assert expect(REFUSED, 'refused', 'permission').verdict == 'other words'
    assert expect(REFUSED, 'done').verdict == 'wrongly refused'
    failed = Ended(1, '', 'Traceback (most recent call last)\nOSError\n', 1.0)
    assert expect(failed, 'refused', 'locked').verdict == 'traceback'


def test_either__done_or_refused_and_the_words():
    assert either(REFUSED, 'locked').verdict == 'as promised'
    assert either(Ended(0, 'it is Locked\n', '', 1.0), 'locked').verdict == 'as promised'
    assert either(Ended(0, '', '', 1.0), 'locked').verdict == 'wrong'
    assert either(Ended(1, '', 'locked\n', 1.0), 'locked').verdict == 'exit 1'


def test_check__a_condition_that_does_not_hold():
    good = Outcome('as promised', 'done')
    assert check(good, (True, 'a'), (True, 'b')) == good
    assert check(good, (True, 'a'), (False, 'rows are doubled')).verdict == 'wrong'
    assert check(Outcome('hang', ''), (False, 'b')).verdict == 'hang'


def test_meet__tells_of_skips_and_of_failures_of_its_own(tmp_path, capsys):
    def skips(place):
        """It cannot be made here."""
        raise Skip('no tmpfs')

    def breaks(place):
        """It is wrong itself."""
        raise KeyError('x')

    def names_a_path(place):
        """The text has paths."""
        return Outcome('as promised', f'{place.folder}/run and {accidents.ROOT}')

    where = pathlib.Path('checkout')
    assert meet(skips, tmp_path, where)['verdict'] == 'skipped'
    assert meet(breaks, tmp_path, where)['verdict'] == 'tool failed'
    told = meet(names_a_path, tmp_path, where)
    assert told['text'] == 'run and TOOLS'
    assert told['what'] == 'The text has paths'


@pytest.mark.parametrize('module', accidents.MODULES)
def test_accident__each_says_what_happens(module):
    importlib.import_module(f'tools.campaign.accidents.{module}')
    assert accidents.ACCIDENTS
    for name, function in accidents.ACCIDENTS.items():
        assert function.__doc__, name
