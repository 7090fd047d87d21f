"""Charts are SVG in the page's colours, with texts as texts."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from dtql_jax.report.charts import Axis, Line, interval_chart, legend, line_chart
from dtql_jax.report.page import STYLE

X = np.array([1.0, 10.0, 100.0])


def parsed(svg):
    """The element, the way an XML parser reads it, and its texts."""
    root = ElementTree.fromstring(svg)
    return root, [''.join(node.itertext()).strip() for node in root.iter() if node.tag == 'text']


@pytest.mark.parametrize(
    'axis',
    [
        Axis('updates', 'score', thousands=True),
        Axis('alpha', 'score', logarithmic=True, points=True),
        Axis('act', 'score', names=('relu', 'mish', 'a-name-that-is-long'), points=True),
    ],
)
def test_line_chart__has_its_texts_and_the_variables_of_the_page(axis):
    lines = [Line(i, np.arange(3.0) if axis.names else X, X / 2 + i, X / 3, X) for i in range(9)]
    svg = line_chart('chart-1', 'hopper <medium>', axis, lines, 12.0)
    root, texts = parsed(svg)
    assert {axis.x, 'score', 'hopper <medium>'} <= set(texts)
    assert not re.search('#[0-9a-fA-F]{6}', svg)
    assert '<style' not in svg
    assert 'http' not in svg
    used = set(re.findall(r'var\((--\w+)\)', svg))
    assert used >= {'--ink', '--c0', '--c6', '--faint', '--font'}
    defined = STYLE.read_text()
    assert all(f'{name}:' in defined for name in used)
    ids = [node.get('id') for node in root.iter() if node.get('id')]
    assert len(ids) == len(set(ids))
    assert all(name.startswith('chart-1-') for name in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) == set(ids)
    assert root.get('viewBox')


def test_line_chart__a_logarithmic_axis_names_the_values():
    _, texts = parsed(line_chart('a', 't', Axis('x', 'y', logarithmic=True), [Line(0, X, X)]))
    assert {'1', '10', '100'} <= set(texts)


def test_line_chart__is_the_same_every_time():
    def draw():
        return line_chart('a', 't', Axis('x', 'y'), [Line(0, X, X, X, X)])

    assert draw() == draw()


def test_interval_chart__names_every_row():
    rows = [(f'agent {i}', i, 1.0 * i, 0.5 * i, 2.0 * i) for i in range(4)]
    _, texts = parsed(interval_chart('a', 'IQM', 'score', rows))
    assert {'agent 0', 'agent 3', 'score', 'IQM'} <= set(texts)


def test_legend__places_beyond_the_colours_have_dashes():
    text = legend({'a<b': 0, 'c': 7})
    assert 'a&lt;b' in text
    assert text.count('var(--c0)') == 2
    assert 'stroke-dasharray="5 2"' in text


def test_line_chart__texts_keep_their_digits():
    axis = Axis('lr', 'score', names=('0.00015', '0.000234'), points=True)
    _, texts = parsed(line_chart('a', 'lr=0.00015', axis, [Line(0, np.arange(2), np.arange(2))]))
    assert {'0.00015', '0.000234', 'lr=0.00015'} <= set(texts)
