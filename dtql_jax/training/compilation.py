"""How jax is started, how programs are traced and compiled, and where they are kept."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import jax
from absl import logging

from dtql_jax.types import UserError, why

CACHE = '~/.cache/dtql_jax/xla'
# XLA's CPU backend hands many products to the library YNNPACK, which is slower at these sizes than
# XLA's own kernels: with it an update of DTQL takes 4 to 11 % longer at batch 256, 8 % at 2048.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    'cpu': {'xla_cpu_experimental_ynn_fusion_type': ''}
}
# A GPU chooses products by trying kernels, so the next process may choose others. And some kernels
# add in the order in which threads happen to end.
DETERMINISTIC: dict[str, dict[str, str | bool]] = {
    'gpu': {'xla_gpu_deterministic_ops': True, 'xla_gpu_autotune_level': '0'}
}


# Settings of jax that change numbers and that `own_numbers` does not set.
RECORDED = (
    'jax_debug_infs',
    'jax_debug_nans',
    'jax_disable_most_optimizations',
    'jax_high_dynamic_range_gumbel',
    'jax_random_seed_offset',
    'jax_softmax_custom_jvp',
)


@contextlib.contextmanager
def own_numbers() -> Iterator[None]:
    """Inside, the settings of jax that change numbers are jax's defaults, whatever the user's are.

    So a seed gives the same bits in a process that enables 64-bit numbers for its own code. It
    concerns what is traced inside, in this thread. Products have the precision of `Agent.precise`.
    """
    with (
        jax.enable_x64(False),
        jax.default_prng_impl('threefry2x32'),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion('standard'),
        jax.numpy_rank_promotion('allow'),
        jax.default_matmul_precision(None),
        jax.disable_jit(False),
    ):
        yield


def compiler_settings() -> dict[str, str]:
    """The settings of jax and XLA that differ from the defaults and may change numbers."""
    found = {'XLA_FLAGS': ' '.join(sorted(os.environ.get('XLA_FLAGS', '').split()))}
    found |= {name: str(jax.config.values[name] or '') for name in RECORDED}
    return {name: value for name, value in found.items() if value}


def start_jax() -> None:
    """Starts jax and chooses the folder of compiled programs.

    It is `CACHE`, unless jax's own settings name a folder. Where none can be written, none is used.

    Raises:
        UserError: jax cannot start, as on a platform that the machine lacks.
    """
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a text
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise UserError(
            f'jax cannot start on JAX_PLATFORMS={asked or ""} ({why(error)[:300]}): unset '
            'JAX_PLATFORMS, or install jax for that platform'
        ) from error
    asked = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if asked and '://' in asked:
        return
    folder: str | None
    try:
        path = pathlib.Path(asked or CACHE).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            folder, reason = str(path), ''
    except (OSError, RuntimeError) as error:  # the latter without a home folder
        folder, reason = None, why(error)
    if folder is None:
        cure = 'export JAX_COMPILATION_CACHE_DIR=/path/to/a/folder'
        logging.warning('compiled programs are not kept for the next time (%s); %s', reason, cure)
    if folder != asked:
        jax.config.update('jax_compilation_cache_dir', folder)


def repeating(device: jax.Device, deterministic: bool) -> dict[str, str | bool]:
    """The options with which programs of a device repeat their bits in another process, if asked.

    A CPU and a TPU need none.
    """
    platform = 'gpu' if device.platform in ('gpu', 'cuda', 'rocm') else device.platform
    return DETERMINISTIC.get(platform, {}) if deterministic else {}


def compile_for(
    device: jax.Device, lowered: jax.stages.Lowered, deterministic: bool
) -> jax.stages.Compiled:
    """Compiles with the device's options, or without its own where this jaxlib lacks one."""
    options = repeating(device, deterministic)
    try:
        return lowered.compile({**COMPILER_OPTIONS.get(device.platform, {}), **options})
    except jax.errors.JaxRuntimeError as error:
        if 'compile option' not in str(error):
            raise
        return lowered.compile(options)
