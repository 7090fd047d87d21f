import threading
import time

import pytest

from dtql_jax.rollout.patience import ENDLESS, USUAL, Patience
from dtql_jax.types import Stopped, UserError


def never(seconds):
    time.sleep(0.001)
    return False


def test_wait__until_ready_or_the_limit_or_the_stop():
    assert ENDLESS.wait(lambda seconds: True)
    assert not Patience(0.01).wait(never)
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        Patience(should_stop=lambda: next(answers)).wait(never)
    # What is there already counts, also where one is to stop.
    assert Patience(should_stop=lambda: True).wait(lambda seconds: True)


def test_for_making__is_not_shorter_than_packages_take_to_load():
    assert Patience(1).for_making().limit_s == 60
    assert Patience(900).for_making().limit_s == 900
    assert ENDLESS.for_making().limit_s == 0
    assert USUAL.limit_s == 600


def test_call__has_the_result_or_the_error_and_leaves_what_hangs(monkeypatch):
    monkeypatch.setattr('dtql_jax.rollout.patience.START_SECONDS', 0.01)
    assert USUAL.call(lambda: 3, 'counting') == 3
    with pytest.raises(KeyError):
        USUAL.call(lambda: {}['no'], 'failing')
    with pytest.raises(UserError, match=r'^waiting hangs: no answer within 0.01 s; .*eval_timeout'):
        Patience(0.001).call(threading.Event().wait, 'waiting')
