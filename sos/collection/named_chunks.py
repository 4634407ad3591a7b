"""The chunks that manifests name, on disk: there can be more than fit into memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from threading import Lock

# Pages of the database in memory, in KiB.
_CACHE_KIB = 16 * 1024


class NamedChunks:
    """A set of ids, in a temporary database that is gone when this is closed."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Without a name SQLite makes a temporary file, which has no name either.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE named (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, ids: Iterable[str]) -> None:
        """Add *ids*."""
        rows = [(id,) for id in sorted(ids)]
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO named VALUES (?)", rows)
            self._database.execute("COMMIT")

    def of(self, partition: str) -> set[str]:
        """Return the ids in *partition*."""
        # Ids are digits and letters, which sort before "~".
        asked = "SELECT id FROM named WHERE id >= ? AND id < ?"
        with self._lock:
            return {id for (id,) in self._database.execute(asked, (partition, partition + "~"))}

    def partitions(self) -> list[str]:
        """Return the partitions in which there are any."""
        asked = "SELECT DISTINCT substr(id, 1, 3) FROM named"
        with self._lock:
            return [partition for (partition,) in self._database.execute(asked)]

    def __len__(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT count(*) FROM named").fetchone()[0])

    def close(self) -> None:
        """Remove the database."""
        with self._lock:  # a thread can still be at work for a collection that was cancelled
            self._database.close()
