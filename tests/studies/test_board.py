"""What the driver shows while jobs run."""

import io
import os

import pytest

from dtql_jax.studies import board
from dtql_jax.studies.board import Board, left_of, lines_of, share_done
from dtql_jax.studies.folder import Job
from dtql_jax.studies.status import JobStatus

JOBS = [Job('a', {}, 1, None, 30.0), Job('b', {}, 1, None, 10.0), Job('c', {}, 1, None, 60.0)]


def statuses(left_s=20.0):
    """One job done, one half way, one waiting."""
    return [
        JobStatus(name='a', state='done'),
        JobStatus(name='b', state='running', step=50, total=100, left_s=left_s, updates_per_s=2.5),
        JobStatus(name='c', state='waiting'),
    ]


class Terminal(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self):
        return True

    def fileno(self):
        return 1


def test_lines_of__a_line_for_each_running_job_and_one_for_all():
    assert lines_of(JOBS, statuses(), 1) == [
        'b  50/100  2.5 updates/s  20 s left',
        '[##########....................] 35%, 1/3 jobs done, about 4:20 min left',
    ]


def test_share_done__weighs_jobs_by_their_time():
    assert share_done(JOBS, statuses()) == pytest.approx((30 + 5) / 100)
    assert share_done([Job('a', {}, 1), Job('b', {}, 1), Job('c', {}, 1)], statuses()) == 0.5


def test_left_of__corrects_forecasts_by_what_runs():
    # b was to take 10 s and takes 40, so c will take 240.
    assert left_of(JOBS, statuses(), 1) == 260
    assert left_of(JOBS, statuses(), 2) == 240


def test_left_of__is_unknown_until_the_running_jobs_know():
    assert left_of(JOBS, statuses(left_s=None), 1) is None
    assert left_of(JOBS[:1], [JobStatus(name='a', state='waiting')], 1) is None
    unknown = [Job(name, {}, 1) for name in 'abc']
    assert left_of(unknown, statuses(), 1) is None


def test_board__rewrites_its_lines_on_a_terminal(monkeypatch):
    monkeypatch.setattr(os, 'get_terminal_size', lambda _: os.terminal_size((12, 24)))
    stream = Terminal()
    shown = Board(stream)
    shown.show(['a' * 20, 'b'])
    shown.show(['c'])
    shown.say('done')
    assert stream.getvalue() == f'{"a" * 11}\nb\n\x1b[2A\x1b[Jc\n\x1b[1A\x1b[Jdone\n'


def test_board__prints_now_and_then_elsewhere(monkeypatch):
    stream = io.StringIO()
    shown = Board(stream)
    shown.show(['a'])
    assert stream.getvalue() == ''
    monkeypatch.setattr(board, 'LINE_SECONDS', 0.0)
    shown.show(['a', 'b'])
    shown.say('done')
    assert stream.getvalue() == 'a\nb\ndone\n'
