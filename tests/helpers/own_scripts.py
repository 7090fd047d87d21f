"""Scripts that a test writes, run in a process of their own on this checkout's package."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_own_script(script, *arguments, **options):
    """What a script prints; None as the script reads it from standard input."""
    command = [sys.executable, *([script] if script else []), *arguments]
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, **options
    )
    return done.stdout.strip()
