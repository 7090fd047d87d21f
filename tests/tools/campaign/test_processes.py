"""Forked children: how each end is called. They are forked from a fresh interpreter."""

import json
import pathlib
import subprocess
import sys

import pytest

from tools.campaign.processes import Ended

ROOT = pathlib.Path(__file__).parents[3]
SCRIPT = """
import json, os, pathlib, signal, sys, threading, time
from tools.campaign.processes import Child

def fails():
    raise OSError('planted')

def refuses(*lines):
    print(*lines, sep=chr(10), file=sys.stderr)
    return 2

def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(60,)).start()

WORKS = {
    'done': lambda: 0,
    'traceback': fails,
    'refused': lambda: refuses('warning: careful', 'error: no such file'),
    'exit 2': lambda: refuses('error: one', 'and another'),
    'exit 3': lambda: 3,
    'hang': lambda: time.sleep(60),
    'hang of a thread': leaves_a_thread,
    'exit -9': lambda: os.kill(os.getpid(), signal.SIGKILL),
}
log = pathlib.Path(sys.argv[1], 'log')
limits = {'hang': 1, 'hang of a thread': 1}
told = {n: Child(work, log).wait(limits.get(n, 60)).verdict for n, work in WORKS.items()}
print(json.dumps(told))
"""


def test_Child__every_end_has_its_name(tmp_path):
    line = [sys.executable, '-c', SCRIPT, str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told.pop('hang of a thread') == 'hang'
    assert told == {name: name for name in told}
    assert len(told) == 7


@pytest.mark.parametrize('stream', ['out', 'err'])
def test_Ended__a_traceback_counts_also_where_the_exit_code_is_right(stream):
    said = {'out': '', 'err': 'error: damaged\n'}
    said[stream] += 'Traceback (most recent call last):\n  ...\nRuntimeError: loop is closed\n'
    assert Ended(2, **said, seconds=1.0).verdict == 'traceback'
    assert Ended(0, **said, seconds=1.0).verdict == 'traceback'


def test_Ended__warnings_are_no_errors():
    ended = Ended(2, 'warning: a\n', 'WARNING:absl:b\nerror: c\n', 1.0)
    assert ended.verdict == 'refused'
    assert ended.last == 'error: c'
    assert ended.warnings == ['warning: a', 'WARNING:absl:b']
