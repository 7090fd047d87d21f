"""The judge of faults, on processes that never ran."""

import pytest

from tools.campaign import faults, kills
from tools.campaign.processes import Ended

DONE = Ended(0, 'done\n', '', 1.0)


@pytest.fixture
def subject():
    """A subject with made-up facts."""
    made = object.__new__(faults.Subject)
    made.facts = {'array x': 'a', 'rows eval': 'b', 'config spec': 'c'}
    made.evaluated = [{'step': 8, 'eval/score': 1.0}]
    return made


@pytest.mark.parametrize('name', ['array x', 'rows eval', 'config spec'])
def test_judge__finds_a_planted_silent_change(subject, name, monkeypatch, tmp_path):
    monkeypatch.setattr(kills, 'facts_of', lambda run: subject.facts | {name: 'other'})
    assert subject.judge(tmp_path, DONE) == ('silent', f'{name} differ')
    monkeypatch.setattr(kills, 'facts_of', lambda run: dict(subject.facts))
    assert subject.judge(tmp_path, DONE)[0] == 'recovered'


def test_judge__a_finished_run_that_cannot_be_read_is_silent(subject, monkeypatch, tmp_path):
    monkeypatch.setattr(kills, 'facts_of', lambda run: Ended(2, '', 'error: damaged\n', 1.0))
    assert subject.judge(tmp_path, DONE)[0] == 'silent'


@pytest.mark.parametrize(
    ('ended', 'score', 'verdict'),
    [
        (DONE, 1.0, 'recovered'),
        (DONE, 2.0, 'silent'),
        (Ended(0, '', 'warning: fell back\n', 1.0), 2.0, 'told'),
        (Ended(2, '', 'error: no\n', 1.0), 1.0, 'refused'),
        (Ended(1, '', 'Traceback (most recent call last)\n', 1.0), 1.0, 'traceback'),
        (Ended(None, '', '', 1.0), 1.0, 'hang'),
    ],
)
def test_evaluated__each_verdict(subject, ended, score, verdict, monkeypatch, tmp_path):
    rows = [{'step': 8, 'eval/score': score}]
    monkeypatch.setattr(subject, 'evaluate', lambda run, name: (ended, rows))
    assert subject._evaluated(tmp_path)[0] == verdict
