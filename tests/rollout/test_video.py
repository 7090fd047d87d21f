import functools

import numpy as np
import pytest
from PIL import Image

from dtql_jax.rollout.video import record_video
from dtql_jax.types import UserError
from tests.helpers.fake_env import Walk


def test_record_video__films_an_episode(tmp_path):
    frames = functools.partial(record_video, lambda obs: np.full(2, 0.1), Walk(), seed=1)
    total = frames(tmp_path / 'film.gif')
    assert np.isfinite(total)
    with Image.open(tmp_path / 'film.gif') as film:
        assert film.n_frames >= 3
        assert film.info['duration'] == 50


def test_record_video__plays_a_chunk_in_a_row(tmp_path):
    asked = []

    def policy(obs):
        asked.append(obs)
        return np.full((4, 2), 0.1)

    film = functools.partial(record_video, env=Walk(), seed=1)
    total = film(policy, path=tmp_path / 'film.gif')
    with Image.open(tmp_path / 'film.gif') as frames:
        assert len(asked) == -(-frames.n_frames // 4)
    assert total == film(lambda obs: np.full(2, 0.1), path=tmp_path / 'single.gif')


def test_record_video__without_an_encoder_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match='gif'):
        record_video(lambda obs: np.zeros(2), Walk(), tmp_path / 'film.unknown')


def test_record_video__what_fails_is_named(tmp_path, monkeypatch):
    def film(path='film.gif'):
        with pytest.raises(UserError) as error:
            record_video(lambda obs: np.zeros(2), Walk(), tmp_path / path)
        return str(error.value)

    assert 'none/film.gif cannot be written: ' in film('none/film.gif')
    monkeypatch.setattr(Walk, 'step', lambda *_: 1 / 0)
    assert film().startswith('the simulator fails in the film: ZeroDivisionError')
    monkeypatch.setattr(Walk, 'render', lambda *_: 1 / 0)
    assert film().startswith('the simulator cannot draw here: ZeroDivisionError')


def test_record_video__a_mistake_in_the_policy_stays_one(tmp_path):
    with pytest.raises(ZeroDivisionError):
        record_video(lambda obs: 1 / 0, Walk(), tmp_path / 'film.gif')
