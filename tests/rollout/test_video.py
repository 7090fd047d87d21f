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


def test_record_video__without_an_encoder_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match='gif'):
        record_video(lambda obs: np.zeros(2), Walk(), tmp_path / 'film.unknown')
