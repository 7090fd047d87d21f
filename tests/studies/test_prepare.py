"""The preparation of a study, in a process of its own."""

import json
import signal
import subprocess
import sys

import pytest

from dtql_jax.studies.folder import Job, StudyPlan
from dtql_jax.studies.prepare import Needs, main, prepare
from dtql_jax.types import UserError
from tests.helpers.small_runs import ENV

PLAN = StudyPlan({}, '/', ())
BC = {'env': ENV, 'agent': 'bc', 'num_seeds': 3, 'hidden': 8, 'batch_size': 8, 'steps': 4}


def ask(path, *requests, forecast=True):
    """What the process answers, in this process."""
    jobs = [
        {'name': str(i), 'request': request, 'lanes': 1, 'memory': None, 'seconds': None}
        for i, request in enumerate(requests)
    ]
    file = path / 'asked.json'
    asked = {'jobs': jobs, 'side_by_side': 2, 'forecast': forecast, 'modules': [], 'folder': '/'}
    file.write_text(json.dumps(asked))
    assert main(str(file)) == 0
    return json.loads(file.read_text())


def test_main__finds_the_devices_and_what_a_lane_takes(here):
    answer = ask(here, BC, {**BC, 'hidden': 64}, {**BC, 'num_seeds': 5})
    assert answer['machine']['platform'] == 'cpu'
    assert answer['machine']['count'] == 1
    small, large, more = (Needs(**answer['needs'][name]) for name in '012')
    assert small.lane < large.lane
    assert small.lane == more.lane
    assert small.shared == large.shared > 0
    assert small.free is None or small.free > 0
    assert small.seconds > 0


def test_main__looks_at_the_data_alone_where_the_jobs_are_known(here):
    assert ask(here, BC, forecast=False)['needs'] == {}


def test_main__names_all_tasks_without_data(here, monkeypatch):
    monkeypatch.setattr('dtql_jax.data.minari._online', lambda: False)
    none = [{**BC, 'env': f'minari:test/none{i}-v0'} for i in (1, 2)]
    error = ask(here, none[0], BC, none[1], {**none[1], 'hidden': 16})['error']
    assert error.startswith('2 tasks lack their data or simulator: minari:test/none1-v0: ')
    assert error.count('minari:test/none2-v0: ') == 1
    assert ask(here, none[0])['error'].startswith('dataset test/none1-v0')


def test_main__an_agent_that_cannot_be_traced_is_one_line(here):
    path = here / 'untraceable.py'
    path.write_text(
        'import dtql_jax.agents.bc\n'
        'class Mine(dtql_jax.agents.bc.BC):\n'
        '    def init(self, key):\n'
        "        raise TypeError('no shape')\n"
    )
    error = ask(here, {**BC, 'agent': f'{path}:Mine'})['error']
    assert error == f'{path}: TypeError: no shape: mend the agent'


def test_main__is_silent_where_its_driver_is_gone(tmp_path):
    assert main(str(tmp_path / 'asked.json')) == 130


def test_needs__the_most_lanes_that_fit():
    assert Needs(shared=100, lane=10, free=1000, seconds=1.0).most() == 80
    assert Needs(shared=2000, lane=10, free=1000, seconds=1.0).most() == 0
    assert Needs(shared=100, lane=10, free=None, seconds=1.0).most() is None
    assert Needs(shared=100, lane=10, free=None, seconds=1.0).bytes(3) == 130


@pytest.mark.slow
def test_prepare__answers_from_another_process(here, monkeypatch):
    found = prepare(PLAN, [Job('a', BC, 3)], 1, True)
    assert found.machine.platform == 'cpu'
    assert found.needs['a'].seconds > 0
    with pytest.raises(UserError, match='none-v0'):
        prepare(PLAN, [Job('a', {**BC, 'env': 'minari:test/none-v0'}, 3)], 1, True)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_prepare__ends_with_its_driver(number, tmp_path):
    module, driver = tmp_path / 'sleepy.py', tmp_path / 'driver.py'
    module.write_text("import sys, time\nprint('here', file=sys.stderr)\ntime.sleep(600)\n")
    driver.write_text(
        'from dtql_jax.studies.folder import StudyPlan\n'
        'from dtql_jax.studies.prepare import prepare\n'
        f"prepare(StudyPlan({{'modules': [{str(module)!r}]}}, '/', ()), [], 1, False)\n"
    )
    with subprocess.Popen([sys.executable, str(driver)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any(b'here' in line for line in process.stderr)
        process.send_signal(number)
        # The end of the stream: both have ended.
        process.communicate(timeout=60)
    assert process.returncode == -number
