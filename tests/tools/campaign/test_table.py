"""Tables of results."""

import json

from tools.campaign.table import good, table


def write(path, kind, revision, records):
    path.write_text(json.dumps({'kind': kind, 'about': {'revision': revision}, 'records': records}))
    return path


def test_table__accidents_stand_side_by_side(tmp_path):
    hang = {'verdict': 'hang', 'what': 'a simulator hangs', 'text': 'a | b'}
    well = {**hang, 'verdict': 'as promised', 'text': 'error: it hangs'}
    before = write(tmp_path / 'a.json', 'accidents', 'old', {'hangs': hang})
    after = write(tmp_path / 'b.json', 'accidents', 'new', {'hangs': well, 'more': well})
    lines = table([before, after]).splitlines()
    assert lines[2:4] == [
        '| accidents | old | 1 | 1 hang | 1 |',
        '| accidents | new | 2 | 2 as promised | 0 |',
    ]
    assert lines[5] == '| accident | old | new |'
    assert '| **hang**: a \\| b | as promised: error: it hangs |' in lines[7]
    assert '| not tried |' in lines[8]


def test_table__counts_what_is_not_as_promised(tmp_path):
    records = {
        'run 0': {'verdict': 'same', 'strikes': ['a', 'b']},
        'run 1': {'verdict': 'different', 'strikes': ['c']},
    }
    lines = table([write(tmp_path / 'a.json', 'kills', 'new', records)]).splitlines()
    assert lines[2] == '| kills | new | 3 strikes in 2 runs | 1 same, 1 different | 1 |'


def test_good__a_planted_silent_change_is_not():
    assert not any(
        good({'verdict': v}) for v in ('silent', 'traceback', 'hang', 'destroyed', 'wrong')
    )
