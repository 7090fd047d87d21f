"""The seal of a set that this package has written."""

import hashlib
from pathlib import Path

# A set collected here records the SHA-256 of its file under this key of data/metadata.json.
DIGEST_KEY = 'data_sha256'


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
