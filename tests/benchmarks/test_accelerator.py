"""Programs for accelerators: what is counted in them, and that one compiles where a plugin is."""

import importlib.util
import json

import pytest

from tests.helpers.compiling import quick_environment
from tests.helpers.scripts import ROOT, names_of, run_script

# A loop of unknown length over one of length 4, with a branch, a copy, a product and a reduction.
TEXT = """HloModule jit_run

FileNames
1 "/a/dtql_jax/agents/dtql.py"
2 "/a/optax/update.py"

FunctionNames
1 "f"

FileLocations
1 {file_name_id=1 function_name_id=1 line=210 end_line=210 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=7 end_line=7 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}


%sums (a: f32[8]) -> f32[] {
  %a = f32[8]{0} parameter(0)
  ROOT %r = f32[] reduce(%a, %a), dimensions={0}, to_apply=%add
}

%taken (p: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %c = f32[8]{0} copy(%p.1)
}

%skipped (p: f32[8]) -> f32[8] {
  ROOT %p.2 = f32[8]{0} parameter(0)
}

%inner (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %all = f32[4096]{0} constant(0)
  %dot.1 = f32[8]{0} custom-call(%x, %all), custom_call_target="gemm", metadata={stack_frame_id=2}
  %sum.1 = f32[] fusion(%dot.1), kind=kInput, calls=%sums, metadata={stack_frame_id=1}
  %either = f32[8]{0} conditional(%sum.1, %x, %x), branch_computations={%taken, %skipped}
  ROOT %tuple.1 = (s32[], f32[8]{0}) tuple(%sum.1, %either)
}

%outer (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %w = (s32[], f32[8]{0}) while(%t.1), body=%inner, config={"known_trip_count":{"n":"4"}}
}

ENTRY %main (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t.2 = (s32[], f32[8]{0}) parameter(0)
  ROOT %w.1 = (s32[], f32[8]{0}) while(%t.2), condition=%c2, body=%outer
}
"""


@pytest.fixture
def program(monkeypatch):
    return names_of('benchmarks/hlo.py', monkeypatch)['Program'](TEXT, at_most=1000)


def test_Program__finds_loops_and_their_lengths(program):
    assert list(program.loops()) == [('outer', None)]
    assert list(program.loops('outer')) == [('inner', 4)]


def test_Program__counts_kernels_by_kind_and_line(program):
    count = program.count('outer')
    assert dict(count.kernels) == {'product': 4, 'reduction': 4, 'copy': 4}
    assert count.total == 12
    assert dict(count.lines) == {'agents/dtql.py:210': 8, 'unknown': 4}


def test_Program__counts_waits_and_bytes(program):
    one = program.count('inner')
    assert one.stops == 1  # for the branch
    # The product reads 32 bytes, and of a large array as much as it writes.
    assert one.moved == (32 + 32 + 32) + (32 + 4) + (32 + 32)
    assert program.count().stops == 1 + 4  # one pass of the loop of unknown length


def test_size_of__counts_bytes(program, monkeypatch):
    size_of = names_of('benchmarks/hlo.py', monkeypatch)['size_of']
    sizes = {'f32[]': 4, 'bf16[3,2]{1,0}': 12, '(pred[5], u8[2], s64[2])': 23, 'f8e4m3fn[4]': 4}
    assert {shape: size_of(shape) for shape in sizes} == sizes


def rows(tmp_path, chip, *given):
    out = tmp_path / 'report.json'
    sizes = ('--dims=3/2', '--batch_size=8', '--rows=1000', '--agents=dtql')
    environment = quick_environment()
    if chip == 'v5e':  # a TPU's XLA knows no flags of a CPU
        del environment['XLA_FLAGS']
    run_script(
        'benchmarks/accelerator.py', f'--out={out}', f'--chips={chip}', *sizes, *given,
        **environment,
    )  # fmt: skip
    return json.loads(out.read_text())


@pytest.mark.slow
def test_accelerator__counts_this_device_and_times_it(tmp_path):
    report = rows(tmp_path, 'here', '--blocks=1', '--block_seconds=0.01')
    assert [row['phase'] for row in report['results']] == ['pretrain', 'train', 'act']
    assert all(row['kernels'] > 10 and not row['collectives'] for row in report['results'])
    assert report['results'][1]['kernels'] > report['results'][0]['kernels']
    assert report['measured'][0]['train'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('chip', ['h100', 'v5e'])
def test_accelerator__compiles_for_one_that_is_not_here(tmp_path, chip):
    plugin = {'h100': 'jax_cuda12_plugin', 'v5e': 'libtpu'}[chip]
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f'{plugin} is not installed: XLA cannot compile for {chip}')
    for row in rows(tmp_path, chip)['results'][:2]:
        assert row['block_known'] is (True if chip == 'h100' else None)
        assert row['waits'] == pytest.approx(1 / row['block'] if chip == 'h100' else 0, abs=1e-3)
        assert row['collectives'] == 0


def test_committed_numbers__know_every_loop(monkeypatch):
    path = ROOT / 'benchmarks' / 'results' / 'accelerator.json'
    results = json.loads(path.read_text())['results']
    agents = set(names_of('benchmarks/accelerator.py', monkeypatch)['AGENTS'])
    places = {(row['chip'], row['lanes'], row['devices']) for row in results}
    assert places == {
        *((chip, 1, 1) for chip in ('h100', 'a100', 'b200', 'v5e')),
        ('h100', 32, 1),
        ('h100', 1, 8),
    }
    for place in places:
        found = {r['agent'] for r in results if (r['chip'], r['lanes'], r['devices']) == place}
        assert found == agents
    assert not any(row['collectives'] for row in results)
    loops = [row for row in results if row['phase'] != 'act' and row['chip'] != 'v5e']
    assert all(row['block_known'] for row in loops)
    waits = {row['agent']: row['waits'] for row in loops}
    assert set(waits.values()) == {0.1}  # once for each block of ten updates


def test_table__is_that_of_the_docs(monkeypatch):
    table = names_of('benchmarks/accelerator.py', monkeypatch)['table']
    report, before = (
        json.loads((ROOT / 'benchmarks' / 'results' / f'{name}.json').read_text())
        for name in ('accelerator', 'accelerator_before')
    )
    assert table(report, before) in (ROOT / 'docs' / 'accelerators.md').read_text()
