"""Charts as inline SVG: small, without a reference to anything outside, in the page's colours.

A chart is drawn in the colours of `COLOURS`. Each becomes a variable of the page's style sheet, so
that the chart is light or dark with the page. Texts stay texts.
"""

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from dtql_jax.report.plots import FAINT, INK, PALETTE

# colour -> the variable of page.css that stands for it; the lines' colours are c0, c1, ...
COLOURS = {INK.lower(): 'ink', FAINT.lower(): 'faint', '#999999': 'axis'}
COLOURS |= {colour.lower(): f'c{i}' for i, colour in enumerate(PALETTE)}

# Comments, a style for the whole page, and shapes without a line or a colour.
UNSEEN = (
    r'<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|'
    r'<g id="patch_\d+">\s*<path d="[^"]*" style="fill: none"/>\s*</g>'
)


def variable(name: str) -> str:
    """The reference to a variable of the style sheet."""
    dashes = 2 * '-'
    return f'var({dashes}{name})'


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element.

    Args:
        figure: drawn in the colours of `COLOURS` only.
        name: begins every id, so that several charts may stand on a page.
        description: what it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
        figure.savefig(stream, format='svg', transparent=True, metadata={'Date': None})
    text = stream.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(UNSEEN, '', text, flags=re.DOTALL)
    text = _named(text, name)
    text = re.sub(r'#[0-9a-f]{6}\b', lambda found: variable(COLOURS.get(found[0], 'ink')), text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", lambda _: variable('font'), text)
    text = re.sub('<[^>]*>', lambda tag: _rounded(tag[0]), text)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    label = html.escape(description)
    head = f'<svg class="chart" role="img" aria-label="{label}" {view[0]}>'
    text = re.sub(r'<svg.*?>', head, text, count=1, flags=re.DOTALL)
    return re.sub(r'\s*\n\s*', '\n', text).strip()


def _rounded(tag: str) -> str:
    """A tag with its numbers to two digits. Texts outside of tags are left as they are."""
    return re.sub(r'\d+\.\d{3,}', lambda found: f'{float(found[0]):.2f}', tag)


def _named(text: str, name: str) -> str:
    """Leaves only those ids that something refers to, and begins each with the chart's name."""
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda f: f' id="{name}-{f[1]}"' if f[1] in used else '', text)
    text = re.sub(r'(url\(|href=")#', rf'\1#{name}-', text)
    return text.replace('xlink:href', 'href')
