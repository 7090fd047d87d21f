"""Films an episode."""

from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np

from dtql_jax.types import UserError, outside

NO_OPENGL = 'it needs OpenGL: install libegl1 (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa)'


def record_video(
    policy: Callable[[np.ndarray], np.ndarray],
    env: gymnasium.Env,
    path: str | Path,
    *,
    seed: int = 0,
) -> float:
    """Films one episode of `policy(obs [O]) -> action [A]`.

    Args:
        policy: acts, NumPy to NumPy. It may return a chunk `[h, A]`, which is played in a row.
        env: an environment with `render_mode='rgb_array'`.
        path: the film to write; its suffix, .gif or .mp4, is the format.
        seed: draws the start of the episode.

    Returns:
        The episode's return, without a discount.

    Raises:
        UserError: no encoder for the suffix is installed, the film cannot be written, or the
            simulator fails or cannot draw.
    """
    import imageio.v2 as imageio  # a quarter of a second, needed for films alone

    fps = env.metadata.get('render_fps') or 30
    # The encoders want milliseconds per frame for a gif, and frames per second for a video.
    speed = {'duration': 1000 / fps} if Path(path).suffix == '.gif' else {'fps': fps}
    unwritten = f'{path} cannot be written', 'make room or give permission, or name another file'
    with outside(*unwritten):
        try:
            writer = imageio.get_writer(path, **speed)
        except (ImportError, ValueError) as error:
            raise UserError(
                f'{path}: no encoder for this suffix; .gif always works, .mp4 after '
                '`pip install imageio-ffmpeg`'
            ) from error
    broken = 'the simulator fails in the film', 'mend it'
    with outside(*broken):
        obs, _ = env.reset(seed=seed)
    total, done = 0.0, False
    planned: list[np.ndarray] = []
    while not done:
        # The error of a missing OpenGL depends on the library that looked for it.
        with outside('the simulator cannot draw here', NO_OPENGL):
            frame = env.render()
        with outside(*unwritten):
            writer.append_data(frame)
        planned = planned or list(np.atleast_2d(policy(np.asarray(obs, np.float32))))
        with outside(*broken):
            obs, reward, terminated, truncated, _ = env.step(planned.pop(0))
            total, done = total + float(reward), terminated or truncated
    with outside(*unwritten):
        writer.close()
    return total
