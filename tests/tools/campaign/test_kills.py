"""The judge of runs that were struck, and the moments that strikes are aimed at."""

import json

import pytest

from tools.campaign import kills, victim
from tools.campaign.processes import Ended

DONE = Ended(0, '', '', 1.0)
WHOLE = {'array x': 'a', 'rows eval': 'b'}


@pytest.fixture
def struck(tmp_path):
    """A run that was struck once, with one finished checkpoint."""
    made = kills.Victim(tmp_path, 'run', 4.0)
    made.strikes.append('SIGKILL save')
    (made.out / 'checkpoints' / '3').mkdir(parents=True)
    return made


def test_judge__finds_a_planted_difference(struck, monkeypatch):
    monkeypatch.setattr(kills, 'facts_of', lambda out: WHOLE | {'rows eval': 'c'})
    assert struck.judge(DONE, WHOLE) == ('different', 'rows eval')
    monkeypatch.setattr(kills, 'facts_of', lambda out: dict(WHOLE))
    assert struck.judge(DONE, WHOLE)[0] == 'same'


def test_judge__finds_what_is_left_over(struck, monkeypatch):
    monkeypatch.setattr(kills, 'facts_of', lambda out: dict(WHOLE))
    (struck.out / 'checkpoints' / '4.orbax-checkpoint-tmp').mkdir()
    assert struck.judge(DONE, WHOLE) == ('left over', '4.orbax-checkpoint-tmp')


def test_judge__a_process_that_failed(struck):
    ended = Ended(1, '', 'Traceback (most recent call last)\n', 1.0)
    assert struck.judge(ended, WHOLE)[0] == 'traceback'
    assert struck.judge(Ended(None, '', '', 1.0), WHOLE)[0] == 'hang'
    assert struck.judge(Ended(2, '', 'error: no\n', 1.0), WHOLE)[0] == 'not resumed'


def test_moments__are_told_by_the_folder(tmp_path):
    assert not any(moment(tmp_path) for moment in kills.MOMENTS.values())
    (tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp').mkdir(parents=True)
    assert kills.saving(tmp_path)
    (tmp_path / 'metrics.jsonl').write_text(json.dumps({'step': victim.LAST}) + '\n')
    assert kills.evaluating(tmp_path)
    (tmp_path / 'eval.jsonl').write_text(json.dumps({'step': victim.LAST}) + '\n')
    assert kills.reporting(tmp_path)
    assert not kills.evaluating(tmp_path)
