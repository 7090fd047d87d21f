"""`run` and its simulator before the training: one that hangs, fails or changes the process."""

import os
import threading

import gymnasium as gym
import pytest

import dtql_jax
from dtql_jax.rollout import patience
from dtql_jax.types import UserError
from tests.helpers.small_runs import ENV

pytestmark = pytest.mark.usefixtures('here', 'quick_compile')


def train(**changes):
    return dtql_jax.run({'env': ENV, 'agent': 'bc', 'hidden': 8, **changes}, out='x')


@pytest.fixture
def making(monkeypatch):
    """Sets what is called before each simulator is made."""
    make = gym.make

    def set_to(before):
        def made(*args, **kwargs):
            before()
            return make(*args, **kwargs)

        monkeypatch.setattr(gym, 'make', made)

    return set_to


def test_check_env__a_simulator_that_hangs_when_it_is_made_is_one_line(
    making, monkeypatch, no_training, here
):
    end = threading.Event()
    making(end.wait)
    monkeypatch.setattr(patience, 'START_SECONDS', 0.1)
    with pytest.raises(UserError, match=f'^{ENV}: a simulator hangs: no answer within 0.1 s'):
        train(eval_timeout=0.1)
    end.set()
    assert not no_training
    assert not (here / 'x').exists()


@pytest.mark.parametrize('error', [ValueError('no license'), SystemExit(3)])
def test_check_env__a_simulator_that_cannot_be_made_is_one_line(making, no_training, error):
    def fail():
        raise error

    making(fail)
    with pytest.raises(UserError, match=f'which cannot be made: {type(error).__name__}: '):
        train()
    making(lambda: None)
    train()
    assert len(no_training) == 1


def test_run__a_simulator_that_changes_the_working_folder_does_not_move_the_run(
    making, no_training, here
):
    (here / 'other').mkdir()
    making(lambda: os.chdir(here / 'other'))
    train()
    assert (here / 'x' / 'config.json').is_file()
    assert not list((here / 'other').iterdir())


class Careless(gym.Wrapper):
    """An environment whose `close` fails."""

    def close(self):
        raise RuntimeError('the window is gone')


def test_make_env__an_error_at_closing_does_no_harm(monkeypatch, no_training):
    make = gym.make
    monkeypatch.setattr(gym, 'make', lambda *args, **kwargs: Careless(make(*args, **kwargs)))
    train()
    assert len(no_training) == 1
