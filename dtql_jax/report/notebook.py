"""Notebooks: whether the output goes to one, and pictures in it. It never imports IPython."""

import sys
from pathlib import Path
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get('IPython')
    shell = ipython and ipython.get_ipython()
    return getattr(shell, 'kernel', None) is not None


def show_picture(path: Path) -> None:
    """Shows a picture below the cell that runs; nothing outside of a notebook."""
    if in_notebook():
        ipython: Any = sys.modules['IPython']
        ipython.display.display(ipython.display.Image(filename=str(path)))
