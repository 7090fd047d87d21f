"""The result files of benchmarks."""

import json

import pytest

from dtql_jax.types import UserError
from tests.helpers.scripts import names_of


def test_report__is_not_continued_on_another_machine(tmp_path, monkeypatch):
    report, out = names_of('benchmarks/measure.py', monkeypatch)['Report'], tmp_path / 'a.json'
    report(str(out)).add({'rate': 1.0})
    report(str(out), keep=True).add({'rate': 2.0})
    content = json.loads(out.read_text())
    assert len(content['results']) == 2
    out.write_text(json.dumps(content | {'processor': 'Abacus, 1 core'}))
    with pytest.raises(UserError, match=r'measured on another machine \(Abacus'):
        report(str(out), keep=True)
    report(str(out)).add({'rate': 3.0})
    assert len(json.loads(out.read_text())['results']) == 1


def test_machine__tells_the_processors_vectors_and_its_products(monkeypatch):
    told = names_of('benchmarks/measure.py', monkeypatch)['machine']()
    assert told['vectors'] in ('512 bits', '256 bits', '128 bits', 'unknown')
    assert float(told['products'].removesuffix(' GFLOP/s')) > 0
