"""The facts that runs are compared by."""

import pathlib
import subprocess
import sys

from tools.campaign import victim

ROOT = pathlib.Path(__file__).parents[3]


def test_rows__leave_out_times_and_keep_what_is_damaged(tmp_path):
    (tmp_path / 'eval.jsonl').write_text('{"step":1,"time/s":2.0}\nno row\n{"step":2}\n{"st')
    assert victim.rows(tmp_path, 'eval') == [{'step': 1}, "b'no row'", {'step': 2}, "b'{\"st'"]
    assert victim.rows(tmp_path, 'metrics') == []


def test_differences__name_what_differs_or_is_missing():
    ours, theirs = {'a': '1', 'b': '2', 'c': '3'}, {'a': '1', 'b': '9', 'd': '4'}
    assert victim.differences(ours, theirs) == ['b', 'c', 'd']
    assert victim.differences(ours, dict(ours)) == []


def test_preload__starts_no_backend(tmp_path):
    """A fork of a process with one may hang."""
    code = (
        'import pathlib, sys\nfrom tools.campaign import victim\n'
        'victim.prepare(pathlib.Path(sys.argv[1]))\nvictim.preload()\n'
        'from jax._src import xla_bridge\nassert not xla_bridge._backends\n'
        'import threading\nassert threading.active_count() == 1\n'
    )
    subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, check=True)
