"""The chunks that manifests name, on disk: there can be more than fit into memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from sos.errors import Unavailable

# Pages of the database in memory, in KiB.
_CACHE_KIB = 16 * 1024


class NamedChunks:
    """The ids of chunks, each with an object that needs it.

    They are in a temporary database that is gone when this is closed.  Its methods raise
    Unavailable if the disk fails or is full.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        # Without a name SQLite makes a temporary file, which has no name either.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE named (id TEXT PRIMARY KEY, object TEXT) WITHOUT ROWID"
        )

    def add(self, object: str, chunks: Iterable[str]) -> None:
        """Add the *chunks* of an *object*."""
        rows = [(id, object) for id in sorted(chunks)]
        with self._opened() as database:
            database.execute("BEGIN")
            database.executemany("INSERT OR IGNORE INTO named VALUES (?, ?)", rows)
            database.execute("COMMIT")

    def of(self, partition: str) -> dict[str, str]:
        """Return the chunks in *partition*, each with an object that needs it."""
        # Ids are digits and letters, which sort before "~".
        asked = "SELECT id, object FROM named WHERE id >= ? AND id < ?"
        with self._opened() as database:
            return dict(database.execute(asked, (partition, partition + "~")))

    def partitions(self) -> list[str]:
        """Return the partitions in which there are any."""
        asked = "SELECT DISTINCT substr(id, 1, 3) FROM named"
        with self._opened() as database:
            return [partition for (partition,) in database.execute(asked)]

    def __len__(self) -> int:
        with self._opened() as database:
            return int(database.execute("SELECT count(*) FROM named").fetchone()[0])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise Unavailable(f"cannot note the chunks of objects on disk: {error}") from error

    def close(self) -> None:
        """Remove the database."""
        with self._lock:  # a thread can still be at work for a collection that was cancelled
            self._database.close()
