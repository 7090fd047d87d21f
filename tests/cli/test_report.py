"""`dtql report`."""

from dtql_jax.cli import report
from tests.helpers.report_runs import noisy, write_run
from tests.helpers.small_runs import ROOT, process, refused


def test_main__mistakes(capsys, tmp_path):
    assert refused(capsys, report.main).startswith('name either a study as --study=DIR')
    assert refused(capsys, report.main, '--study=a', '--runs=b').startswith('name either')
    error = refused(capsys, report.main, f'--study={tmp_path}/nowhere')
    assert error.startswith('--study=')
    assert error.endswith('there is no such folder: check the path')
    assert refused(capsys, report.main, f'--study={tmp_path}').startswith(f'{tmp_path} has no run')
    error = refused(capsys, report.main, f'--runs={tmp_path}/nowhere', f'--out={tmp_path}/out')
    assert 'nowhere' in error
    run_dir = write_run(tmp_path / 'run', noisy(0, 2), env='hopper-medium-v2')
    assert 'add --out=DIR' in refused(capsys, report.main, f'--runs={run_dir}')


def test_main__a_folder_that_cannot_be_written(capsys, tmp_path):
    run_dir = write_run(tmp_path / 'run', noisy(0, 2), env='hopper-medium-v2')
    (tmp_path / 'file').write_text('mine')
    error = refused(capsys, report.main, f'--runs={run_dir}', f'--out={tmp_path}/file/report')
    assert error.endswith('name another folder with --out')
    assert (tmp_path / 'file').read_text() == 'mine'


def test_main__a_script_writes_the_report_of_runs(tmp_path):
    run_dir = write_run(tmp_path / 'run', noisy(0, 2), env='hopper-medium-v2')
    script = ROOT / 'experiments' / 'report.py'
    result = process(script, f'--runs={run_dir}', f'--out={tmp_path}/out')
    assert (result.returncode, result.stdout) == (0, f'{tmp_path}/out/index.html\n')
    assert (tmp_path / 'out' / 'scores.csv').exists()
