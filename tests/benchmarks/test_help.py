"""Every script has a help page: its docstring and its flags."""

import re
import runpy
import sys

import pytest

from tests.helpers.scripts import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ('benchmarks', 'experiments/studies')
    for path in (ROOT / folder).glob('*.py')
    if '__main__' in path.read_text()
)


def test_scripts__are_found():
    names = {name.rpartition('/')[2].removesuffix('.py') for name in SCRIPTS}
    benchmarks = {
        'speed',
        'reference',
        'lanes',
        'limit',
        'loading',
        'saves',
        'accelerator',
        'operations',
        'charts',
        'everything',
    }
    studies = {'comparison', 'detector', 'goal_handling', 'idql_mazes', 'scores', 'theorem'}
    assert names >= benchmarks | studies | {'reference_worker'}


@pytest.mark.parametrize('script', SCRIPTS)
def test_help__shows_the_docstring_and_the_flags(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [script, '--help'])
    monkeypatch.syspath_prepend((ROOT / script).parent)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / script), run_name='__main__')
    assert not stopped.value.code
    page = capsys.readouterr().out
    doc = runpy.run_path(str(ROOT / script), run_name='script')['__doc__']
    assert ''.join(doc.split()) in ''.join(page.split())
    assert '--' in page[page.index(doc.split()[-1]) :]


@pytest.mark.parametrize(
    'module', ['tools.validate_simulators.replay', 'tools.record_golden.__main__']
)
def test_help__of_a_tool(module, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, module, raising=False)  # another test may have imported it
    monkeypatch.setattr(sys, 'argv', [module, '--help'])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name='__main__')
    assert not stopped.value.code
    page = capsys.readouterr().out
    assert f'python -m {module.removesuffix(".__main__")}' in page
    assert '--out' in page


def test_readme__names_every_script_and_result():
    readme = (ROOT / 'benchmarks' / 'README.md').read_text()
    for script in SCRIPTS:
        assert script.rpartition('/')[2] in readme, script
    results = {path.name for path in (ROOT / 'benchmarks' / 'results').glob('*.json')}
    assert set(re.findall(r'`(\w+\.json)`', readme)) == results
