"""`everything.py` starts scripts that exist, with flags that they have."""

import json
import pathlib

import pytest

from tests.helpers.scripts import ROOT, names_of, run_script

FLAGS = ['--out=results', '--hopper=data', '--reference_dtql=a', '--reference_dql=b']


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
def test_commands__scripts_know_their_flags(platform, monkeypatch):
    script = names_of('benchmarks/everything.py', monkeypatch)
    asked = script['FLAGS']
    asked(['everything', *FLAGS])
    commands = script['commands'](asked, pathlib.Path('results'), platform)
    assert len(commands) == (12 if platform == 'gpu' else 10)
    flags_of = {}
    for name, (_, path, *given) in commands.items():
        path = pathlib.Path(path)
        assert path.is_file(), name
        if path.parent.name != 'benchmarks':
            continue  # experiments/run.py, whose flags depend on the agent
        if path.stem not in flags_of:
            names = names_of(f'benchmarks/{path.name}', monkeypatch)
            flags_of[path.stem] = names['FLAGS'], names.get('PARTS', ())
        known, parts = flags_of[path.stem]
        for flag in given:
            key, _, value = flag.removeprefix('--').partition('=')
            assert key in known, f'{path.name} has no flag {flag}'
            assert key != 'part' or value in parts
    for name in commands:
        result = ROOT / 'benchmarks' / 'results' / f'{name}_cpu.json'
        assert result.exists() or name == 'hopper_medium' or platform == 'gpu', name


def test_main__wants_a_folder(monkeypatch, capsys):
    script = names_of('benchmarks/everything.py', monkeypatch)
    assert script['run_command'](script['main'], script['FLAGS'], '', ['everything']) == 2
    assert '--out' in capsys.readouterr().err


@pytest.mark.slow
def test_main__passes_over_what_is_done(tmp_path):
    ledger = tmp_path / 'done_cpu.json'
    ledger.write_text(json.dumps(['limit']))
    output = run_script('benchmarks/everything.py', f'--out={tmp_path}', '--only=limit')
    assert '==' not in output
    assert json.loads(ledger.read_text()) == ['limit']
