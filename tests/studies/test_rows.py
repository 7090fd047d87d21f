"""Rows of a run's logs."""

import json
import math
from pathlib import Path

import pytest

from dtql_jax.studies.rows import Metrics, lane_index, lane_of, read_row
from dtql_jax.types import Lane, UserError
from tests.helpers.result_files import evaluation, metric

INDEX = lane_index([Lane('dtql', 0), Lane('dtql', 1)])
PATH = Path('x/eval.jsonl')


def line(row):
    return json.dumps(row, separators=(',', ':')).encode()


def read(row):
    return read_row(PATH, 3, line(row), INDEX, 'eval/episodes')


@pytest.mark.parametrize('change', [
    {'step': '100'}, {'step': None}, {'step': 1.5}, {'seed': 2}, {'seed': [0]}, {'seed': True},
    {'variant': 'iql'}, {'eval/score': 'high'}, {'eval/score': None}, {'eval/episodes': [1]},
    {'episode/return': 5}, {'episode/return': [1.0, 'x']}, {'episode/return': [1.0, None]},
    {'episode/length': [1.0]}, {'time/eval_s': 'x'}, {'diverged_at': 'x'},
])  # fmt: skip
def test_read_row__a_value_that_is_none_is_named_by_its_line(change):
    good = evaluation(100, 'dtql', 1, [1, 2])
    assert read(good) == good
    with pytest.raises(UserError, match=r'^x/eval.jsonl, line 3 is no row of this run: mend or'):
        read({**good, **change})


@pytest.mark.parametrize('lost', ['step', 'seed', 'variant', 'eval/episodes', 'episode/return'])
def test_read_row__a_value_that_is_lost_is_named_by_its_line(lost):
    row = evaluation(100, 'dtql', 1, [1, 2])
    del row[lost]
    with pytest.raises(UserError, match='line 3 is no row'):
        read(row)


def test_read_row__what_is_not_finite_is_a_number():
    row = read({**evaluation(100, 'dtql', 1, [1, 2]), 'episode/return': ['nan', '-inf']})
    assert math.isnan(row['episode/return'][0])
    assert row['episode/return'][1] == -math.inf


def test_lane_of__a_variant_may_be_called_nan():
    index = lane_index([Lane('nan', 0)])
    row = read_row(PATH, 1, line(evaluation(1, 'nan', 0, [1])), index, 'eval/episodes')
    assert index[lane_of(row)] == 0


def test_Metrics__finds_the_newest_row_at_or_before_a_step():
    rows = [metric(step, 'dtql', seed, step + seed) for step in (10, 20, 40) for seed in (0, 1)]
    del rows[3]['time/elapsed_s']
    lines = [*map(line, rows[:4]), json.dumps(rows[4]).encode(), line(rows[5])]  # other blanks too
    log = Metrics(PATH, lines, INDEX)
    assert math.isnan(log.elapsed_s(9))
    assert [log.elapsed_s(step) for step in (10, 19, 40, 99)] == [11, 11, 41, 41]
    assert math.isnan(log.elapsed_s(20))  # that row has none
    assert math.isnan(Metrics(PATH, [], INDEX).elapsed_s(5))


def test_Metrics__parses_few_of_many_rows():
    lines = [b'{"step":%d,broken' % step for step in range(100_000)]
    lines[70_000] = line(metric(70_000, 'dtql', 0, 5.0))
    lines[90_000] = line(metric(90_000, 'dtql', 1, 5.0, diverged_at=89_999))
    log = Metrics(PATH, lines, INDEX)
    assert log.elapsed_s(70_000) == 5.0
    assert log.diverged() == {1: 89_999}
    with pytest.raises(UserError, match='line 70002 is not a JSON object'):
        log.elapsed_s(70_001)
