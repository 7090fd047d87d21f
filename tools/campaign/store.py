"""The results of a campaign: one JSON file for each kind, which a later call goes on with."""

import json
import os
import pathlib
import platform
import subprocess
import time
from collections import Counter
from importlib import metadata
from typing import Any

PACKAGES = ('jax', 'orbax-checkpoint', 'gymnasium', 'minari', 'h5py', 'numpy')


class Store:
    """The records of one kind, by name, in a file that is whole at any time.

    Args:
        path: the file.
        kind: the kind of the campaign.
        about: what the records were made with, such as the seed. A file that was made with
            something else is not continued.
        minutes: how long records may be added; None for no limit.
    """

    def __init__(
        self, path: pathlib.Path, kind: str, about: dict[str, Any], minutes: float | None = None
    ):
        self.path, self.end = path, None if minutes is None else time.monotonic() + 60 * minutes
        self.content: dict[str, Any] = {'kind': kind, 'about': about, 'records': {}}
        if path.exists():
            self.content = json.loads(path.read_text())
            if self.content['about'] != about:
                raise SystemExit(
                    f'{path} was made with {self.content["about"]}, not {about}: use another --out'
                )

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The records so far."""
        return self.content['records']

    @property
    def time_left(self) -> bool:
        """Whether further records may be added."""
        return self.end is None or time.monotonic() < self.end

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Adds a record, writes the file and says so."""
        self.records[name] = record
        new = self.path.with_suffix('.new')
        new.write_text(json.dumps(self.content, indent=1) + '\n')
        new.replace(self.path)
        print(f'{name}: {record["verdict"]}: {record.get("text", "")}'[:200], flush=True)

    def tally(self) -> Counter:
        """How often each verdict came."""
        return Counter(record['verdict'] for record in self.records.values())


def about(checkout: pathlib.Path, seed: int) -> dict[str, Any]:
    """What a campaign was made with: revision, seed, versions and machine."""
    git = ['git', '-C', str(checkout), 'describe', '--always', '--dirty', '--abbrev=10']
    revision = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        'revision': revision or 'unknown',
        'seed': seed,
        'python': platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    }
