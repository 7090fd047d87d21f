"""Runs the scripts of `benchmarks`, `experiments` and `tools` as a user does, or reads them."""

import os
import pathlib
import runpy
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]


def run_script(name: str, *given: str, **environment: str) -> str:
    """The output of `python <name> <flags>`, `name` a path from the root or `-m` and a module."""
    command = [sys.executable, *name.split(), *given]
    # Where the package is not installed from this checkout, this one counts all the same.
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), **environment}
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_of(script: str, monkeypatch: Any) -> dict[str, Any]:
    """The global names of a script, in this process, without running its `main`."""
    path = ROOT / script
    monkeypatch.syspath_prepend(path.parent)
    return runpy.run_path(str(path), run_name=path.stem)
