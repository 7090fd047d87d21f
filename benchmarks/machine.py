"""What every benchmark's result file says about where it was measured."""

import os
import pathlib
import platform
import time

import jax


def machine() -> dict[str, str]:
    """Devices, processor, versions and date."""
    return {
        'device': f'{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}',
        'processor': processor(),
        'python': platform.python_version(),
        'jax': jax.__version__,
        'date': time.strftime('%Y-%m-%d'),
    }


def processor() -> str:
    """The processor's name and cores, as far as the system tells."""
    info = pathlib.Path('/proc/cpuinfo')
    names = [
        line.split(':')[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith('model name')
    ]
    return f'{names[0] if names else platform.machine()}, {os.cpu_count()} cores'
