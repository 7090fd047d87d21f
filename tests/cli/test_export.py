"""`dtql export`."""

import pytest

from dtql_jax.cli import export
from tests.helpers.small_runs import refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'no run to export: name its folder as --run=DIR'),
        (['--run=x'], 'no folder to write as --out=DIR'),
        (['--run=nowhere', '--out=policy'], 'nowhere is no run folder'),
        (
            ['--run=x', '--out=.'],
            'exists and is never overwritten: choose another folder with --out',
        ),
        (['--run=x', '--out=y', '--format=pb'], "--format=pb: use 'stablehlo', 'onnx' or 'numpy'"),
    ],
)
def test_main__mistakes(arguments, message, capsys):
    assert message in refused(capsys, export.main, *arguments)


def test_main__writes_and_lists_the_files(cloned, here, capsys):
    flags = [f'--run={cloned}', '--out=policy', '--format=numpy', '--which=best', '--seed=1']
    assert export.main(['dtql export', *flags]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == f'{here}/policy:'
    assert [row.split()[0] for row in rows] == sorted(p.name for p in (here / 'policy').iterdir())
