"""One worker process: answers, errors, death, its end, and what it can receive."""

import os
import signal
import subprocess
import sys

import pytest

from dtql_jax.rollout.patience import Patience
from dtql_jax.rollout.worker import Worker, WorkerLost, answering, reaches_workers
from tests.helpers.own_scripts import ROOT, run_own_script


def serve(pipe, factor):
    """Multiplies; `None` kills the process, a text makes it fail."""
    with answering(pipe):
        while True:
            request = pipe.recv()
            if request is None:
                os._exit(3)
            pipe.send(factor * (request + 0))


def ignore(pipe):
    """Never looks at its pipe."""
    while True:
        signal.pause()


def start(serve=serve, *arguments):
    return Worker(serve, *arguments, name='a calculator', cure='buy another')


def test_Worker_receive__answers_in_order_and_the_workers_own_errors():
    worker = start(serve, 2)
    worker.send(3)
    worker.send(4)
    assert [worker.receive(), worker.receive()] == [6, 8]
    worker.send('text')
    with pytest.raises(TypeError) as error:
        worker.receive()
    assert 'In the worker: Traceback' in error.value.__notes__[0]
    worker.close()


def test_Worker_receive__tells_that_the_worker_died():
    worker = start(serve, 2)
    worker.send(None)
    with pytest.raises(RuntimeError, match=r'a calculator died \(exit code 3\): .*; buy another'):
        worker.receive()
    worker.send(1)  # `receive` reports it, not this
    worker.close()


def test_Worker_receive__names_the_signal_that_killed_it():
    worker = start(serve, 2)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r'^a calculator died \(SIGKILL\): was memory short'):
        worker.receive()
    worker.close()


def test_Worker_receive__kills_a_worker_that_hangs():
    worker = start(ignore)
    with pytest.raises(WorkerLost, match=r'^a calculator hangs: no answer within 0.01 s; mend it'):
        worker.receive(Patience(0.01))
    assert worker._process.exitcode == -signal.SIGKILL
    worker.close()


def test_Worker_close__ends_a_worker_by_its_pipe_or_kills_it():
    for worker, patience_s in ((start(serve, 2), 20), (start(ignore), 0.1)):
        worker.close(patience_s)
        assert not worker._process.is_alive()
        assert (worker._process.exitcode == 0) == (patience_s == 20)


def test_reaches_workers__not_a_lambda_nor_a_local_class():
    class Local:
        """Only this function knows it."""

    assert reaches_workers(serve)
    assert not reaches_workers(lambda: None)
    assert not reaches_workers(Local)


# Prints whether a class of the main module, and one of another module, reach workers.
MAIN = """
import pathlib
from dtql_jax.rollout.worker import reaches_workers

class Mine:
    pass

print(reaches_workers(Mine), reaches_workers(pathlib.Path))
"""


def test_reaches_workers__depends_on_how_the_script_is_run(tmp_path):
    (tmp_path / 'package').mkdir()
    for name in ('script.py', 'package/__main__.py', 'package/__init__.py'):
        (tmp_path / name).write_text('' if '__init__' in name else MAIN)
    assert run_own_script(tmp_path / 'script.py') == 'True True'
    assert run_own_script('-m', 'script', cwd=tmp_path) == 'True True'
    assert run_own_script('-m', 'package', cwd=tmp_path) == 'False True'
    assert run_own_script('-c', MAIN) == 'False True'
    # The script's file may be called '<stdin>', which no worker can import.
    assert run_own_script(None, input=MAIN).split()[0] == 'False'


def everything(folder):
    """All that the script in the folder prints."""
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, 'script.py'], cwd=folder, env=environment, text=True, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout.strip()


# A class that only the script's own process has, in a script that trains without a guard too.
GUARDED = """
import gymnasium
from dtql_jax.rollout.env_pool import EnvPool

if __name__ == '__main__':
    class Mine(gymnasium.Env):
        pass

    try:
        EnvPool(Mine, 2, 2)
    except AttributeError as error:
        print(error)
"""
UNGUARDED = """
import dtql_jax
from dtql_jax.rollout.env_pool import EnvPool
from dtql_jax.rollout.worker import WorkerLost, importing_script

if importing_script():
    dtql_jax.run({'env': 'none'})
try:
    EnvPool(dict, 2, 2)
except WorkerLost as error:
    print(error)
"""


def test_Worker__says_what_it_cannot_load_and_prints_nothing(tmp_path):
    (tmp_path / 'script.py').write_text(GUARDED)
    text = everything(tmp_path)
    assert text.startswith("Can't get attribute 'Mine' on <module '__mp_main__'")
    assert 'Traceback' not in text


def test_importing_script__a_worker_does_not_train(tmp_path):
    (tmp_path / 'script.py').write_text(UNGUARDED)
    text = everything(tmp_path)
    assert text == (
        'an environment worker died (exit code 1): read its output above; a script that starts '
        "workers needs `if __name__ == '__main__':`"
    )
