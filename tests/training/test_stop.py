"""The flag that signals set."""

import os
import signal
import threading

import pytest

from dtql_jax.training.stop import StopFlag


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_StopFlag__is_set_by_a_signal_and_handlers_are_put_back(number):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    stop = StopFlag()
    with stop.listening() as flag:
        assert flag is stop
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.signal == number
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_StopFlag__a_second_sigint_interrupts_at_once():
    with StopFlag().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_listening__handles_nothing_outside_the_main_thread():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with StopFlag().listening() as flag:
            seen.extend([flag(), signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, before]
