import numpy as np
import pytest

from dtql_jax.report.tables import evaluation_table, score_table, table
from dtql_jax.types import Lane


def evals_of(lanes, scores, **columns):
    """Rows of `eval.jsonl`: `scores` `[S, evaluations]` of each lane."""
    return [
        {'step': step, 'variant': lane.variant, 'seed': lane.seed, 'eval/score': score, **columns}
        for lane, own in zip(lanes, scores, strict=True)
        for step, score in enumerate(own)
    ]


def cells(text, variant):
    """The cells of a variant's line, between two spaces or more."""
    (line,) = (line for line in text.splitlines() if line.startswith(f'{variant}  '))
    return [cell.strip() for cell in line.split('  ') if cell.strip()]


def test_table__aligns_text_to_the_left_and_numbers_to_the_right():
    assert table([('', 'a'), ('long name', '1.0'), ('x', '10.0')]).splitlines() == [
        '              a',
        '---------  ----',
        'long name   1.0',
        'x          10.0',
    ]


def test_score_table__below_five_seeds_shows_each():
    lanes = [Lane('dtql', 0), Lane('dtql', 1)]
    evals = evals_of(lanes, [[90.0, 50.0], [10.0, 30.0]], **{'eval/success': 0.25})
    assert cells(score_table(lanes, evals, None, {}), 'dtql') == [
        'dtql', '2', '50.0 30.0', '40.0', '90.0 30.0', '60.0', '0.25',
    ]  # fmt: skip


def test_score_table__from_five_seeds_on_shows_the_iqm_and_its_interval():
    lanes = [Lane('dtql', seed) for seed in range(5)]
    text = score_table(lanes, evals_of(lanes, [[7.0]] * 5), None, {})
    assert cells(text, 'dtql') == ['dtql', '5', '7.0 [7.0, 7.0]', '7.0', '7.0 [7.0, 7.0]', '7.0']


def test_score_table__the_data_come_first_then_the_clone_then_the_agent():
    lanes = [Lane('dtql', 0), Lane('clone', 0)]
    lines = score_table(lanes, evals_of(lanes, [[3.0], [2.0]]), 32.7, {}).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ['behaviour', 'clone', 'dtql']
    assert lines[2].split()[-1] == '32.7'


def test_score_table__a_diverged_lane_has_no_last_score():
    lanes = [Lane('dtql', 0), Lane('dtql', 1)]
    text = score_table(lanes, evals_of(lanes, [[5.0], [9.0]]), None, {1: 12345})
    assert cells(text, 'dtql') == ['dtql', '2', '5.0 -', '5.0', '5.0 9.0', '7.0']
    assert text.splitlines()[-1] == 'dtql seed 1: diverged at update 12,345'


def test_score_table__without_any_evaluation():
    assert cells(score_table([Lane('dtql', 0)], [], None, {}), 'dtql') == [
        'dtql', '1', 'no evaluation', '-', '-', '-',
    ]  # fmt: skip


@pytest.mark.parametrize('behaviour', [None, 58.0])
def test_evaluation_table__has_the_columns_of_its_rows(behaviour):
    rows = [
        {'variant': variant, 'seed': seed, 'eval/score': score, 'eval/return': 2 * score,
         'eval/length': 100.0, 'eval/success': 0.125}
        for variant, seed, score in [('dtql', 0, 1.0), ('dtql', 1, 3.0), ('clone', 0, 0.5)]
    ]  # fmt: skip
    text = evaluation_table(rows, behaviour)
    assert text.splitlines()[0].split()[-3:] == ['return', 'length', 'success']
    assert cells(text, 'dtql') == ['dtql', '2', '1.0 3.0', '2.0', '4.0', '100.0', '0.12']
    assert cells(text, 'clone') == ['clone', '1', '0.5', '0.5', '1.0', '100.0', '0.12']
    assert ('behaviour (data)' in text) == (behaviour is not None)
    for row in rows:
        del row['eval/success']
    assert 'success' not in evaluation_table(rows, behaviour)


def test_evaluation_table__a_seed_that_is_missing_is_a_dash():
    rows = [
        {'variant': 'dtql', 'seed': seed, 'eval/score': score}
        for seed, score in enumerate([1.0, np.nan])
    ]
    assert cells(evaluation_table(rows, None), 'dtql') == ['dtql', '2', '1.0 -', '1.0']


@pytest.mark.parametrize('make', ['score', 'evaluation'])
def test_score_table__a_behaviour_that_is_not_known_is_said(make):
    lanes = [Lane('dtql', 0)]
    rows = evals_of(lanes, [[1.0]], **{'eval/return': 1.0})
    text = (
        score_table(lanes, rows, 'not known', {})
        if make == 'score'
        else evaluation_table(rows, 'not known')
    )
    assert cells(text, 'behaviour (data)') == ['behaviour (data)', 'not known']


FAILED = {'step': 7, 'variant': 'dtql', 'seed': 1, 'eval/failed': 'reward not finite: seed 1'}


def test_score_table__a_failed_evaluation_is_not_known_and_never_0():
    lanes = [Lane('dtql', 0), Lane('dtql', 1)]
    evals = evals_of(lanes, [[5.0, 6.0], [9.0]], **{'eval/success': 0.5})
    text = score_table(lanes, [*evals, FAILED], None, {})
    assert cells(text, 'dtql') == ['dtql', '2', '6.0 -', '6.0', '6.0 9.0', '7.5', '0.50']
    assert text.splitlines()[-1] == (
        'dtql seed 1: the evaluation at update 7 failed: reward not finite: seed 1'
    )
    # A failure before the last evaluation is no matter of the last score.
    text = score_table(lanes, [FAILED, *evals], None, {})
    assert cells(text, 'dtql') == ['dtql', '2', '6.0 9.0', '7.5', '6.0 9.0', '7.5', '0.50']
    assert 'failed' not in text
    text = score_table(lanes[1:], [FAILED], None, {})
    assert cells(text, 'dtql') == ['dtql', '1', '-', '-', '-', '-']


def test_evaluation_table__a_failed_lane_is_not_known_and_never_0():
    sound = {'step': 7, 'variant': 'dtql', 'seed': 0, 'eval/score': 3.0, 'eval/return': 6.0}
    text = evaluation_table([FAILED, sound], None)
    assert cells(text, 'dtql') == ['dtql', '2', '- 3.0', '3.0', '6.0']
    assert text.splitlines()[-1] == (
        'dtql seed 1: the evaluation at update 7 failed: reward not finite: seed 1'
    )
    assert cells(evaluation_table([FAILED], None), 'dtql') == ['dtql', '1', '-', '-']
