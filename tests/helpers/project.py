"""The files of the project."""

import functools
import subprocess

import pytest

from tests.house import ROOT


@functools.cache
def project_files():
    """The files that git tracks, or would track: those that a commit may hold."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    try:
        output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('not a git checkout')
    paths = (ROOT / name for name in output.decode().split('\0') if name)
    return [path for path in paths if path.is_file()]


def text_files():
    """Each text file with its text."""
    for path in project_files():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue
