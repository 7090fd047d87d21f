import io

import numpy as np
import pytest

from dtql_jax.report import console
from dtql_jax.report.console import Console, duration
from dtql_jax.types import Lane, Phase

PHASE = Phase('train', update=None, steps=1000, batch_size=1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the console reads; a test sets them."""
    now = [1000.0]
    monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
    return now


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0, '0 s'),
        (59.4, '59 s'),
        (59.6, '1:00 min'),
        (75, '1:15 min'),
        (3599, '59:59 min'),
        (7500, '2:05 h'),
        (360_000, '100:00 h'),
    ],
)
def test_duration__has_the_unit_that_reads_best(seconds, text):
    assert duration(seconds) == text


def test_Console__prints_lines_and_warnings():
    out = Console(io.StringIO())
    out.say('one')
    out.warn('two')
    out.compiled(PHASE, 1.26)
    out.diverged(Lane('dtql', 3), 12345)
    lines = out.stream.getvalue().splitlines()
    assert lines[:3] == ['one', 'warning: two', 'compiled train in 1.3 s']
    assert lines[3].startswith('warning: dtql seed 3 diverged at update 12,345: ')


def test_evaluated__tells_failed_evaluations_from_diverged_lanes():
    out = Console(io.StringIO())
    out.failed(7000, Lane('dtql', 3), 'reward not finite: seed 3, episode 0, step 5')
    scores = np.array([1.25, np.nan, -np.inf, 0.0])
    out.evaluated(7000, [Lane('dtql', seed) for seed in range(4)], scores, 75)
    assert out.stream.getvalue().splitlines() == [
        'warning: dtql seed 3: the evaluation at 7,000 failed and has no score: reward not finite: '
        'seed 3, episode 0, step 5',
        'evaluation at 7,000: score dtql 1.2 failed diverged 0.0  (1:15 min)',
    ]


def test_Console__progress_off_a_terminal_is_a_line_now_and_then(clock):
    out = Console(io.StringIO())
    for step, seconds in [(100, 0.0), (200, 1.0), (300, 20.0), (400, 21.0), (1000, 22.0)]:
        clock[0] = 1000.0 + seconds
        out.progress(PHASE, step, 1000, 10.0)
    lines = out.stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ['100/1,000', '300/1,000', '1,000/1,000']
    assert lines[0] == 'train 100/1,000  10.0 updates/s  1:30 min left'


def test_Console__progress_on_a_terminal_is_one_line(clock):
    out = Console(Terminal())
    out.rewrite('a long line', last=False)
    out.rewrite('short', last=False)
    assert out.stream.getvalue() == '\ra long line\rshort      '
    out.say('stays')
    out.say('stays too')
    assert out.stream.getvalue().endswith('\r     \rstays\nstays too\n')


def test_Console__the_time_left_includes_the_evaluations_to_come(clock):
    out = Console(io.StringIO())
    out.eval_steps = (500, 1000)
    out.evaluated(0, [Lane('dtql', 0)], np.array([1.0]), 30.0)
    out.progress(PHASE, 500, 1000, 10.0)  # 50 s of updates, and two evaluations
    clock[0] += 100
    out.progress(PHASE, 501, 1000, 10.0)  # 50 s, and one
    lines = out.stream.getvalue().splitlines()[1:]
    assert [line.split('updates/s')[1].strip() for line in lines] == [
        '1:50 min left',
        '1:20 min left',
    ]


def test_Console__an_evaluation_lists_the_scores_by_variant():
    out = Console(io.StringIO())
    lanes = [Lane('dtql', 0), Lane('clone', 0), Lane('dtql', 1)]
    out.evaluated(5000, lanes, np.array([81.25, 3.0, -np.inf]), 75.0)
    assert out.stream.getvalue() == (
        'evaluation at 5,000: score dtql 81.2 diverged; clone 3.0  (1:15 min)\n'
    )
