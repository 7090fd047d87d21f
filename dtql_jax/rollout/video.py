"""Films of an episode."""

from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np

from dtql_jax.types import UserError


def record_video(
    policy: Callable[[np.ndarray], np.ndarray],
    env: gymnasium.Env,
    path: str | Path,
    *,
    seed: int = 0,
) -> float:
    """Films one episode of `policy(obs [O]) -> action [A]`; returns the episode's return.

    The suffix of `path` chooses the format (.gif or .mp4); `env` renders in mode 'rgb_array'.
    Raises UserError where writing .mp4 lacks its encoder.
    """
    import imageio.v2 as imageio  # only films need it

    fps = env.metadata.get('render_fps', 30)
    # A gif is told how many milliseconds a frame lasts, a video how many frames a second has.
    speed = {'duration': 1000 / fps} if Path(path).suffix == '.gif' else {'fps': fps}
    try:
        writer = imageio.get_writer(path, **speed)
    except (ImportError, ValueError) as error:
        raise UserError(
            f'{path}: no encoder for this suffix; .gif always works, .mp4 after '
            '`pip install imageio-ffmpeg`'
        ) from error
    with writer:
        obs, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            writer.append_data(env.render())
            obs, reward, terminated, truncated, _ = env.step(policy(np.asarray(obs, np.float32)))
            total, done = total + float(reward), terminated or truncated
    return total
