"""The page and the files beside it."""

import pytest

from dtql_jax.report.formats import Table
from dtql_jax.report.page import MARK, Charts, Details, Note, Section, page, tables_of, write
from dtql_jax.types import UserError

TABLE = Table('one', 'One', ('a', 'b'), [('1', '2')], 'lr')
SECTIONS = [
    Section('first', 'First & only', 'It shows <this>.', [
        Note('careful', grave=True), TABLE, Charts(['<svg></svg>'], '<ul></ul>'),
        Details('run-0', 'a run', ['dtql train'], [('seed', '0')]),
    ]),
]  # fmt: skip


def test_page__escapes_and_links_its_sections():
    text = page('A <study>', ['1 task'], SECTIONS)
    assert '<title>A &lt;study&gt;</title>' in text
    assert '<a href="#first">First &amp; only</a>' in text
    assert 'It shows &lt;this&gt;.' in text
    assert '<p class="warn">careful</p>' in text
    assert '<details id="run-0"><summary>a run</summary>' in text
    assert MARK in text


def test_write__writes_every_format_and_replaces_its_own(tmp_path):
    out = tmp_path / 'a' / 'report'
    for _ in range(2):
        path = write(out, page('A', [], SECTIONS), tables_of(SECTIONS))
    assert path == out / 'index.html'
    assert {file.name for file in out.iterdir()} == {
        'index.html', 'tables.md', 'tables.tex', 'one.csv',
    }  # fmt: skip


@pytest.mark.parametrize('name', ['index.html', 'one.csv', 'tables.md'])
def test_write__never_overwrites_what_no_report_wrote(tmp_path, name):
    (tmp_path / name).write_text('mine')
    with pytest.raises(UserError, match=f'{name} exists, and no report wrote it'):
        write(tmp_path, page('A', [], SECTIONS), tables_of(SECTIONS))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, 'mine')]


def test_write__a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='name another folder with `out`'):
        write(tmp_path / 'file' / 'report', page('A', [], []), [])
