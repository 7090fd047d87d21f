"""A report as one HTML page that needs nothing else, and its tables in other formats.

A report is a list of sections. A section begins with what it shows and how to read it.
"""

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

from dtql_jax.report.formats import Table, to_csv, to_html, to_latex, to_markdown
from dtql_jax.types import UserError, outside

MARK = '<meta name="generator" content="dtql_jax report">'  # tells our pages from others
STYLE = Path(__file__).with_name('page.css')


@dataclasses.dataclass(frozen=True)
class Charts:
    """A group of charts side by side.

    Attributes:
        charts: each as SVG.
        legend: as HTML, above them.
    """

    charts: Sequence[str]
    legend: str = ''


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph; `grave` marks one that nobody should miss."""

    text: str
    grave: bool = False


@dataclasses.dataclass(frozen=True)
class Details:
    """Something to unfold: its title, lines to copy, and facts by name.

    Attributes:
        anchor: its id.
        title: the line that is always shown.
        lines: the lines to copy, such as commands.
        facts: names and texts.
    """

    anchor: str
    title: str
    lines: Sequence[str]
    facts: Sequence[tuple[str, str]]


Part = Table | Charts | Note | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        name: its id.
        title: its heading.
        words: what is shown and how to read it, in a sentence or two.
        parts: its tables, charts and notes, in order.
    """

    name: str
    title: str
    words: str
    parts: Sequence[Part]


def page(title: str, facts: Sequence[str], sections: Sequence[Section]) -> str:
    """The text of the page: its title, some facts about the whole, and the sections."""
    links = ''.join(
        f'<li><a href="#{section.name}">{html.escape(section.title)}</a></li>'
        for section in sections
    )
    name = html.escape(title)
    return '\n'.join([
        '<!DOCTYPE html>', '<html lang="en">', '<head>', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', MARK,
        f'<title>{name}</title>', f'<style>\n{STYLE.read_text()}</style>', '</head>', '<body>',
        f'<h1>{name}</h1>', *(f'<p>{html.escape(fact)}</p>' for fact in facts),
        f'<nav><ul>{links}</ul></nav>', *map(_section, sections), '</body>', '</html>', '',
    ])  # fmt: skip


def write(out: Path, text: str, tables: Sequence[Table]) -> Path:
    """Writes the page and the tables into a folder; returns the page's path.

    Raises:
        UserError: a file cannot be written, or the folder has files of these names that no report
            wrote.
    """
    files = {
        'index.html': text,
        'tables.md': '\n'.join(map(to_markdown, tables)),
        'tables.tex': '% needs \\usepackage{booktabs}\n' + '\n'.join(map(to_latex, tables)),
        **{f'{table.name}.csv': to_csv(table) for table in tables},
    }
    cure = 'make room or give permission, or name another folder with `out`'
    with outside(f'{out} cannot be read', cure):
        there = [name for name in files if (out / name).exists()]
        index = out / 'index.html'
        ours = not there or (index.exists() and MARK in index.read_text(encoding='utf-8'))
    if not ours:
        raise UserError(
            f'{out / there[0]} exists, and no report wrote it: name another folder with `out`'
        )
    for name, content in files.items():
        with outside(f'{out / name} cannot be written', cure):
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(content, encoding='utf-8')
    return out / 'index.html'


def tables_of(sections: Sequence[Section]) -> list[Table]:
    """All tables of the sections."""
    return [part for section in sections for part in section.parts if isinstance(part, Table)]


def _section(section: Section) -> str:
    parts = '\n'.join(map(_part, section.parts))
    return (
        f'<section id="{section.name}">\n<h2>{html.escape(section.title)}</h2>\n'
        f'<p>{html.escape(section.words)}</p>\n{parts}\n</section>'
    )


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return to_html(part)
    if isinstance(part, Note):
        return f'<p class="{"warn" if part.grave else "note"}">{html.escape(part.text)}</p>'
    if isinstance(part, Charts):
        figures = '\n'.join(f'<figure>{chart}</figure>' for chart in part.charts)
        return f'{part.legend}\n<div class="charts">\n{figures}\n</div>'
    facts = ''.join(
        f'<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>' for name, text in part.facts
    )
    lines = html.escape('\n'.join(part.lines))
    return (
        f'<details id="{part.anchor}"><summary>{html.escape(part.title)}</summary>\n'
        f'<pre>{lines}</pre>\n<dl>{facts}</dl></details>'
    )
