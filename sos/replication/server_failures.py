"""Which servers are worth asking, in one pass."""

from __future__ import annotations

from collections import Counter

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

#: Failures one after the other at which a server is left alone for a pass.
PATIENCE = 5


class Health:
    """How the servers of a group, by their names, have done so far."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._full: set[str] = set()

    def gives(self, name: str) -> bool:
        """Tell whether a server can be asked for blobs."""
        return self._failures[name] < PATIENCE

    def takes(self, name: str) -> bool:
        """Tell whether a server can be sent blobs."""
        return name not in self._full and self.gives(name)

    def worked(self, *names: str) -> None:
        """These servers have done what they were asked to."""
        for name in names:
            self._failures[name] = 0

    def failed(self, name: str, error: SOSError) -> None:
        """A server has not; what is no failure of the whole of it does not count."""
        if isinstance(error, (NoSpace, ReadOnly)):
            self._full.add(name)
        elif isinstance(error, Unavailable):
            self._failures[name] += 1
