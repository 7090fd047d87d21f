import hashlib
import json
import math
import os
import resource

import numpy as np
import pytest

from dtql_jax.report.loggers import JsonlLog, read_jsonl
from dtql_jax.types import UserError
from tests.helpers.permissions import obeying_permissions


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'metrics.jsonl'


def test_JsonlLog__floats_read_back_exactly(path):
    values = [0.1, 1 / 3, 1e-310, -0.0, 5e300, np.float32(0.1), np.float64(math.pi)]
    with JsonlLog(path) as log:
        log.write({f'v{i}': value for i, value in enumerate(values)})
    (row,) = read_jsonl(path)
    assert list(row.values()) == [float(value) for value in values]
    assert math.copysign(1, row['v3']) == -1


def test_JsonlLog__every_line_is_strict_json(path):
    def refuse(name):
        raise AssertionError(f'{name} is not JSON')

    with JsonlLog(path) as log:
        log.write({'a': math.nan, 'b': math.inf, 'c': np.float32('-inf'), 'variant': 'dtql'})
    row = json.loads(path.read_text(), parse_constant=refuse)
    assert row == {'a': 'nan', 'b': 'inf', 'c': '-inf', 'variant': 'dtql'}
    (row,) = read_jsonl(path)
    assert math.isnan(row['a'])
    assert (row['b'], row['c'], row['variant']) == (math.inf, -math.inf, 'dtql')


def test_JsonlLog__lists_read_back_with_what_is_not_finite(path):
    with JsonlLog(path) as log:
        log.write({'episode/return': [1 / 3, math.nan, np.float32(-math.inf), 2], 'none': []})
        with pytest.raises(TypeError):
            log.write({'episode/return': [np.zeros(2)]})
    assert 'NaN' not in path.read_text()
    (row,) = read_jsonl(path)
    third, unknown, *rest = row['episode/return']
    assert third == 1 / 3
    assert math.isnan(unknown)
    assert rest == [-math.inf, 2]
    assert row['none'] == []


def test_JsonlLog__rows_are_visible_before_a_flush(path):
    log = JsonlLog(path)
    log.write({'step': 1})
    assert read_jsonl(path) == [{'step': 1}]
    log.close()


def test_JsonlLog__refuses_arrays(path):
    with JsonlLog(path) as log:
        with pytest.raises(TypeError):
            log.write({'loss': np.zeros(2)})
        assert log.flush() == 0


def test_JsonlLog__a_resumed_file_equals_an_uninterrupted_one(path, tmp_path):
    rows = [{'step': i, 'loss': 1 / (i + 1)} for i in range(10)]
    whole = tmp_path / 'whole.jsonl'
    with JsonlLog(whole) as log:
        for row in rows:
            log.write(row)

    with JsonlLog(path) as log:
        for row in rows[:4]:
            log.write(row)
        offset = log.flush()
        for row in rows[4:7]:
            log.write(row)
    with path.open('ab') as file:
        file.write(b'{"step":7,"lo')  # killed while writing
    assert read_jsonl(path) == rows[:7]

    with JsonlLog(path, resume_at=offset) as log:
        for row in rows[4:]:
            log.write(row)
        assert log.flush() == path.stat().st_size
    assert path.read_bytes() == whole.read_bytes()


def test_JsonlLog__appends_without_an_offset(path):
    for step in range(2):
        with JsonlLog(path) as log:
            log.write({'step': step})
    assert read_jsonl(path) == [{'step': 0}, {'step': 1}]


def test_JsonlLog__resumes_at_the_start(path):
    for _ in range(2):
        with JsonlLog(path, resume_at=0) as log:
            log.write({'step': 0})
    assert read_jsonl(path) == [{'step': 0}]


@pytest.mark.parametrize('content', [None, b'', b'{"step":0}\n'])
def test_JsonlLog__refuses_a_file_shorter_than_the_checkpoint(path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r'metrics\.jsonl .*byte 100.*`out`'):
        JsonlLog(path, resume_at=100)
    assert (path.read_bytes() if path.exists() else None) == content


def test_JsonlLog__refuses_an_offset_within_a_row(path):
    path.write_bytes(b'{"step":0}\n{"step":1}\n')
    with pytest.raises(UserError, match='no row that ends at byte 5'):
        JsonlLog(path, resume_at=5)
    assert len(read_jsonl(path)) == 2


def test_read_jsonl__names_the_file_and_the_line(path):
    with pytest.raises(UserError, match=r'metrics\.jsonl does not exist'):
        read_jsonl(path)
    path.write_text('{"step":0}\n[1]\n')
    with pytest.raises(UserError, match=r'metrics\.jsonl, line 2'):
        read_jsonl(path)


# What other programs and full disks do.


def two_rows(path):
    """A log of two rows: its length and digest, as a checkpoint records them."""
    with JsonlLog(path) as log:
        log.write({'step': 1, 'loss': 0.25})
        log.write({'step': 2, 'loss': 0.5})
        return log.flush(), log.digest


def test_digest__is_that_of_the_file_also_after_a_resume(path):
    offset, digest = two_rows(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with JsonlLog(path, offset, digest) as log:
        log.write({'step': 3})
        assert log.flush() == path.stat().st_size
        assert log.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(('old', 'new'), [(b'0.25', b'0.26'), (b'"step":2', b'"step":3')])
def test_JsonlLog__refuses_a_changed_digit(path, old, new):
    offset, digest = two_rows(path)
    changed = path.read_bytes().replace(old, new)
    path.write_bytes(changed)
    with pytest.raises(UserError, match=r'metrics\.jsonl was edited: its rows up to byte') as error:
        JsonlLog(path, offset, digest)
    assert '\n' not in str(error.value)
    assert path.read_bytes() == changed
    path.write_bytes(changed.replace(new, old) + b'{"st')  # mended, with the rest of a row
    with JsonlLog(path, offset, digest) as log:
        assert log.digest == digest
    assert len(read_jsonl(path)) == 2


def test_flush__a_file_that_was_removed_comes_back_with_all_rows(path):
    with JsonlLog(path) as log:
        log.write({'step': 1})
        offset, digest = log.flush(), log.digest
        path.unlink()
        log.write({'step': 2})
        with pytest.raises(UserError, match=r'was removed while the run wrote to it.*`resume`'):
            log.flush()
    assert read_jsonl(path) == [{'step': 1}, {'step': 2}]
    with JsonlLog(path, offset, digest) as log:
        log.write({'step': 2})
    assert read_jsonl(path) == [{'step': 1}, {'step': 2}]


def test_flush__the_rows_of_a_file_that_was_replaced_are_kept_beside_it(path):
    """As an editor or `sed -i` leaves it."""
    with JsonlLog(path) as log:
        log.write({'step': 1})
        other = path.with_name('other')
        other.write_bytes(b'edited\n')
        other.rename(path)
        log.write({'step': 2})
        with pytest.raises(UserError, match=r'own rows are in .*metrics\.jsonl\.saved; rename'):
            log.flush()
    assert path.read_bytes() == b'edited\n'
    assert read_jsonl(path.with_name('metrics.jsonl.saved')) == [{'step': 1}, {'step': 2}]


@pytest.mark.parametrize('how', ['appended', 'cut'])
def test_flush__refuses_a_file_that_another_program_changed(path, how):
    with JsonlLog(path) as log:
        log.write({'step': 1})
        if how == 'cut':
            os.truncate(path, 3)
        else:
            with path.open('ab') as file:
                file.write(b'{}\n')
        with pytest.raises(UserError, match='was changed by another program while the run wrote'):
            log.flush()


def test_write__a_full_disk_is_one_line_and_keeps_what_was(path):
    offset, digest = two_rows(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = JsonlLog(path, offset, digest)
    resource.setrlimit(resource.RLIMIT_FSIZE, (offset + 3, hard))  # takes three bytes of the row
    try:
        with pytest.raises(UserError, match=r'cannot be written: File too large.*make room') as e:
            log.write({'step': 3})
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert '\n' not in str(e.value)
    assert path.read_bytes().endswith(b'\n{"s')
    with JsonlLog(path, offset, digest) as log:
        log.write({'step': 3})
    assert [row['step'] for row in read_jsonl(path)] == [1, 2, 3]


def test_JsonlLog__a_file_of_another_user_is_one_line(path):
    two_rows(path)
    path.chmod(0o444)
    with obeying_permissions(), pytest.raises(UserError, match='cannot be written: Permission'):
        JsonlLog(path)
    path.chmod(0)
    with obeying_permissions(), pytest.raises(UserError, match='cannot be read: Permission'):
        JsonlLog(path)


def test_JsonlLog__two_that_append_to_one_file_keep_each_others_rows(path):
    """Such as two evaluations of one run."""
    with JsonlLog(path) as one:
        one.write({'of': 1})
        with JsonlLog(path) as two:
            two.write({'of': 2})
        one.write({'of': 1})
    assert [row['of'] for row in read_jsonl(path)] == [1, 2, 1]
