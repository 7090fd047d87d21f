"""The folder of a study."""

import os
import stat

import pytest

from dtql_jax.studies.folder import Job, StudyPlan, make, read_plan, write_plan, write_whole
from dtql_jax.types import UserError

PLAN = StudyPlan(
    {'env': ['a'], 'sweep': {'alpha': [1.0]}},
    '/home',
    (Job('a', {'env': 'a', 'variants': {'alpha=1': {'alpha': 1.0}}}, 2, 100, 1.5), Job('b', {}, 1)),
)


def test_write_plan__is_read_back(tmp_path):
    write_plan(tmp_path, PLAN)
    assert read_plan(tmp_path) == PLAN
    assert PLAN.names() == ('a', 'b')
    assert PLAN.job('b') == Job('b', {}, 1)


def test_read_plan__an_edit_is_told(tmp_path):
    write_plan(tmp_path, PLAN)
    text = (tmp_path / 'plan.json').read_text()
    for then, now in (('"lanes": 2', '"lanes": 3'), ('"name"', '"mane"'), ('"study"', '"story"')):
        (tmp_path / 'plan.json').write_text(text.replace(then, now))
        with pytest.raises(UserError, match=r'plan\.json was edited or is damaged'):
            read_plan(tmp_path)


def test_job__an_unknown_one_is_named():
    with pytest.raises(UserError, match="no job 'c': there are a, b"):
        PLAN.job('c')


def test_write_whole__leaves_the_old_text_where_it_fails(tmp_path, monkeypatch):
    path = tmp_path / 'x'
    write_whole(path, 'old')
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(UserError, match='No space left'):
        write_whole(path, 'new')
    assert path.read_text() == 'old\n'
    assert list(tmp_path.iterdir()) == [path]


def test_make__names_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be made'):
        make(tmp_path / 'file' / 'x')
