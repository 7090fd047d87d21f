"""One table in four formats: HTML, Markdown, LaTeX and CSV."""

import csv
import dataclasses
import html
import io
import re
from collections.abc import Sequence

LATEX = {
    '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
    '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
    '<': r'\textless{}', '>': r'\textgreater{}', '±': r'$\pm$', '≤': r'$\le$', '≥': r'$\ge$',
    '−': '--', '–': '--', '×': r'$\times$', '·': r'$\cdot$', '…': r'\ldots{}',
}  # fmt: skip

LONG = 34  # letters of a cell that stay in one line


@dataclasses.dataclass(frozen=True)
class Link:
    """A cell that leads to a place on the page; elsewhere it is its text.

    `short` is what the page shows instead of a long text.
    """

    text: str
    to: str
    short: str = ''

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Links:
    """A cell with several links, one after the other."""

    parts: tuple[Link, ...]

    def __str__(self) -> str:
        return '; '.join(map(str, self.parts))


Cell = str | Link | Links


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: the name of its file, and with `table-` before it its id on the page.
        caption: what it shows, in a few words.
        heading: the names of the columns.
        rows: the cells, as many as the heading has.
        sides: a letter for each column, as LaTeX has them: l for texts, r for numbers.
        anchors: an id for each row, which links may name; none without.
    """

    name: str
    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sides: str
    anchors: Sequence[str] = ()


def to_html(table: Table) -> str:
    """The table as HTML; a line stands above each new text in the first column."""
    head = ''.join(
        f'<th scope="col"{_class(side)}>{html.escape(text)}</th>'
        for side, text in zip(table.sides, table.heading, strict=True)
    )
    lines, above = [], None
    for number, row in enumerate(table.rows):
        mark = f' id="{html.escape(table.anchors[number])}"' if table.anchors else ''
        group = '' if above in (None, str(row[0])) else ' class="group"'
        cells = ''.join(
            f'<td{_class(side, cell)}>{_cell(cell)}</td>'
            for side, cell in zip(table.sides, row, strict=True)
        )
        lines.append(f'<tr{mark}{group}>{cells}</tr>')
        above = str(row[0])
    return (
        f'<div class="scroll" tabindex="0"><table id="table-{table.name}">'
        f'<caption>{html.escape(table.caption)}</caption>\n'
        f'<thead><tr>{head}</tr></thead>\n<tbody>\n' + '\n'.join(lines) + '\n</tbody></table></div>'
    )


def to_markdown(table: Table) -> str:
    """The table as Markdown under a heading."""
    rule = ['---' if side == 'l' else '--:' for side in table.sides]
    rows = [table.heading, rule, *([_escaped(cell) for cell in row] for row in table.rows)]
    lines = [f'| {" | ".join(row)} |' for row in rows]
    return f'## {table.caption}\n\n' + '\n'.join(lines) + '\n'


def to_latex(table: Table) -> str:
    """The table in LaTeX, with the rules of the package booktabs."""

    def line(row: Sequence[Cell]) -> str:
        return ' & '.join(map(_latex, row)) + r' \\'

    return '\n'.join([
        r'\begin{table}', r'\centering', rf'\caption{{{_latex(table.caption)}}}',
        rf'\label{{tab:{table.name}}}', rf'\begin{{tabular}}{{{table.sides}}}', r'\toprule',
        line(table.heading), r'\midrule', *map(line, table.rows), r'\bottomrule',
        r'\end{tabular}', r'\end{table}', '',
    ])  # fmt: skip


def to_csv(table: Table) -> str:
    """The table as comma-separated values, with its heading."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(table.heading)
    writer.writerows([str(cell) for cell in row] for row in table.rows)
    return stream.getvalue()


def _class(side: str, cell: Cell = '') -> str:
    """Marks numbers, and texts that are so long that they are broken into lines."""
    long = len(_seen(cell)) > LONG
    names = [*(['n'] if side == 'r' else []), *(['long'] if long else [])]
    return f' class="{" ".join(names)}"' if names else ''


def _seen(cell: Cell) -> str:
    """The text of a cell on the page."""
    if isinstance(cell, Links):
        return '; '.join(map(_seen, cell.parts))
    return cell.short or cell.text if isinstance(cell, Link) else cell


def _cell(cell: Cell) -> str:
    if isinstance(cell, Links):
        return '; '.join(map(_cell, cell.parts))
    if isinstance(cell, Link):
        return f'<a href="#{html.escape(cell.to)}">{html.escape(cell.short or cell.text)}</a>'
    return html.escape(cell)


def _escaped(cell: Cell) -> str:
    """A cell of Markdown, whose text is no markup."""
    return re.sub(r'([\\|*_`<>\[\]])', r'\\\1', str(cell)).replace('\n', ' ')


def _latex(cell: Cell) -> str:
    return ''.join(LATEX.get(letter, letter) for letter in str(cell))
