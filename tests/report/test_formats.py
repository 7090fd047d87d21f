"""One table in HTML, Markdown, LaTeX and CSV."""

import csv
import io

from dtql_jax.report.formats import Link, Links, Table, to_csv, to_html, to_latex, to_markdown

TABLE = Table(
    'scores',
    'Scores & more',
    ('task', 'a_b', 'n'),
    [
        ('x<y', Link('50 % | a_b', 'run-0', 'r < 1'), '1.5'),
        ('x<y', Links((Link('p', 'a'), Link('q', 'b'))), '{2} ± 1'),
        ('z', 'w' * 50, '–'),
    ],
    'llr',
    ('r0', 'r1', 'r2'),
)


def test_to_html__escapes_links_and_marks_groups():
    text = to_html(TABLE)
    assert '<td>x&lt;y</td>' in text
    assert '<a href="#run-0">r &lt; 1</a>' in text
    assert '<a href="#a">p</a>; <a href="#b">q</a>' in text
    assert '<tr id="r2" class="group">' in text
    assert text.count('class="group"') == 1
    assert text.count('<td class="n">') == 3
    assert f'<td class="long">{"w" * 50}</td>' in text
    assert '<caption>Scores &amp; more</caption>' in text


def test_to_markdown__has_the_same_cells_in_every_row():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == '## Scores & more'
    assert lines[3] == '| --- | --- | --: |'
    assert lines[4] == r'| x\<y | 50 % \| a\_b | 1.5 |'
    assert {line.replace(r'\|', '').count('|') for line in lines[2:]} == {4}


def test_to_latex__escapes_what_latex_reads():
    text = to_latex(TABLE)
    assert r'\begin{tabular}{llr}' in text
    assert r'task & a\_b & n \\' in text
    assert r'x\textless{}y & 50 \% | a\_b & 1.5 \\' in text
    assert r'\{2\} $\pm$ 1' in text
    assert r'\caption{Scores \& more}' in text


def test_to_csv__reads_back():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ['task', 'a_b', 'n']
    assert rows[1] == ['x<y', '50 % | a_b', '1.5']
    assert rows[2] == ['x<y', 'p; q', '{2} ± 1']
