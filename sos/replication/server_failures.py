"""The circuit breakers of one pass: which servers it still uses."""

from __future__ import annotations

from collections import Counter

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

#: Consecutive failures after which the pass stops using a server.
MOST_FAILURES = 5


class ServerFailures:
    """Failures of the servers of a group in one pass, by server name."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._full: set[str] = set()
        self._last: dict[str, SOSError] = {}

    def gives(self, name: str) -> bool:
        """Return whether to read blobs from a server."""
        return self._failures[name] < MOST_FAILURES

    def takes(self, name: str) -> bool:
        """Return whether to send blobs to a server."""
        return name not in self._full and self.gives(name)

    def worked(self, *names: str) -> None:
        """Record a success of each of these servers."""
        for name in names:
            self._failures[name] = 0

    def failed(self, name: str, error: SOSError) -> None:
        """Record a failure of a server.

        Only Unavailable counts towards :data:`MOST_FAILURES`; a server that is full or read-only
        is sent no more blobs.  All requests of a batch fail with one *error*, which counts once.
        """
        if error is self._last.get(name):
            return
        self._last[name] = error
        if isinstance(error, (NoSpace, ReadOnly)):
            self._full.add(name)
        elif isinstance(error, Unavailable):
            self._failures[name] += 1
