"""How the connections at a socket are spread over the processes that accept from it.

Whichever process wakes first would take all of a burst, and keep it: of 32
connections 30 or more were seen at one of two.  Sockets of their own, by
SO_REUSEPORT, would spread them by chance, and leave what the kernel has dealt
to a process that is gone until there is another in its place.  So each process
tells the others how many it has, and one that is ahead leaves a new connection
to them for a moment.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from typing import IO

#: Seconds that a process which is ahead leaves to the others; after that it
#: takes one connection itself, for they may be busy.
PATIENCE = 0.001

# In place of a count: this process takes none.
_ABSENT = (1 << 31) - 1


class Balance:
    """The number of open connections by socket and process, in memory that they share.

    :param descriptor: of a :func:`counts_file` for as many.
    """

    def __init__(self, descriptor: int, sockets: int, processes: int) -> None:
        self._processes = processes
        size = len(_absent(sockets * processes))
        self._counts = memoryview(mmap.mmap(descriptor, size)).cast("i")

    def open(self, process: int) -> None:
        """Say that *process*, from 0, is there, and has no connections."""
        self._fill(process, 0)

    def close(self, process: int) -> None:
        """Say that *process* is not there."""
        self._fill(process, _ABSENT)

    def _fill(self, process: int, count: int) -> None:
        for place in range(process, len(self._counts), self._processes):
            self._counts[place] = count

    def add(self, socket: int, process: int, change: int) -> None:
        """Count that *process* has so many more connections at *socket*, or less."""
        self._counts[socket * self._processes + process] += change

    def ahead(self, socket: int, process: int) -> bool:
        """Tell whether *process* has an eighth more connections at *socket* than some other."""
        counts = self._counts[socket * self._processes : (socket + 1) * self._processes].tolist()
        least = min(counts)
        return counts[process] - least > least // 8


def counts_file(sockets: int, processes: int) -> IO[bytes]:
    """Return a file, without a name, for the counts of a :class:`Balance`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # its owner closes it
    file.write(_absent(sockets * processes))
    file.flush()
    return file


def _absent(counts: int) -> bytes:
    return array("i", [_ABSENT] * counts).tobytes()
