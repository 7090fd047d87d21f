"""The comparison of exported policies."""

import json

from tests.helpers.scripts import ROOT, names_of


def test_table__is_that_of_the_docs(monkeypatch):
    table = names_of('benchmarks/export.py', monkeypatch)['table']
    report = json.loads((ROOT / 'benchmarks' / 'results' / 'export_cpu.json').read_text())
    assert table(report['results']) in (ROOT / 'docs' / 'export.md').read_text()
