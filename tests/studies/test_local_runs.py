"""Real studies by the local launcher, stopped and killed: they end as if nothing had happened."""

import os
import signal

import pytest

from dtql_jax.studies.status import DONE, FAILED, STOPPED, WAITING, read_state, read_status
from tests.helpers.small_study import (
    BC,
    IQL,
    assert_same_study,
    ended,
    kill,
    under_way,
    wait_for,
)

pytestmark = pytest.mark.slow


def states(study):
    return {status.name: status.state for status in read_status(study)}


def test_launch__a_driver_that_was_killed_and_stopped_goes_on(driver, whole):
    study = driver.folder / 'stopped'
    process = driver.begin('stopped')
    worker = under_way(study, BC)
    kill(process)
    wait_for(lambda: ended(worker))  # it read the end of its pipe
    assert states(study) == {BC: STOPPED, IQL: WAITING}
    assert 'with a checkpoint' in read_state(study, BC).reason

    process = driver.start('stopped')  # with no flag but the folder
    under_way(study, IQL)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C
    code, text = driver.finish(process, 'stopped')
    assert code == 130, text
    assert 'go on with dtql sweep --out=' in text
    assert states(study) == {BC: DONE, IQL: STOPPED}

    process = driver.begin('stopped')
    under_way(study, IQL)
    process.terminate()
    assert driver.finish(process, 'stopped')[0] == 143

    code, text = driver.finish(driver.start('stopped'), 'stopped')
    assert code == 0, text
    assert_same_study(study, whole)
    code, text = driver.finish(driver.start('stopped'), 'stopped')
    assert (code, 'nothing to start' in text) == (0, True)


def test_launch__a_worker_that_was_killed_is_a_failure_and_not_the_end(driver, whole):
    study = driver.folder / 'killed'
    process = driver.begin('killed')
    os.kill(under_way(study, BC), signal.SIGKILL)
    code, text = driver.finish(process, 'killed')
    assert code == 1, text
    assert f'{BC} failed: killed by signal 9 (memory?)' in text
    assert states(study) == {BC: FAILED, IQL: DONE}

    code, text = driver.finish(driver.start('killed'), 'killed')
    assert (code, states(study)[BC]) == (1, FAILED)
    assert 'nothing to start: 1 failed (retry_failed starts them again)' in text

    code, text = driver.finish(driver.start('killed', '--retry_failed'), 'killed')
    assert code == 0, text
    assert_same_study(study, whole)
