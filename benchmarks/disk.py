"""What the disk can do, to be read beside every durable figure."""

from __future__ import annotations

import os
import time
from pathlib import Path

_SECONDS = 2.0
_PAGE = 4096
_PAGES = 256


def syncs_per_second(path: Path) -> int:
    """Return how often a page of the new file *path* can be written and synced in a second."""
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(_PAGES * _PAGE))
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < _SECONDS:
            os.pwrite(file.fileno(), os.urandom(_PAGE), count % _PAGES * _PAGE)
            os.fdatasync(file.fileno())
            count += 1
        return round(count / (time.perf_counter() - begun))
