"""What a crash left in ``incoming/``, settled when the store is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sos import ids
from sos.stores.local.disk import Layout
from sos.stores.local.index import Index

#: In place of the id that is not known yet; it is none.
UNNAMED = "NEW"


def settle_incoming(layout: Layout, index: Index) -> int:
    """Remove every file that no one will finish, and return how many there were.

    None of them was acknowledged, for the incoming name goes last.  A file
    that has its place in ``bodies/`` already keeps it only if the index knows
    it.  The time this takes depends on what was under way, not on what is
    stored.
    """
    leftovers = list(layout.incoming.iterdir())
    for leftover in leftovers:
        if leftover.stat().st_nlink > 1:
            for id in _possible_ids(leftover):
                if index.get(id) is None:
                    layout.withdraw(leftover, id)
        leftover.unlink()
    if leftovers:
        layout.sync_directory(layout.incoming)
    return len(leftovers)


def _possible_ids(leftover: Path) -> list[str]:
    name = leftover.name.partition(".")[0]
    if name != UNNAMED:
        return [name]
    found = []
    for algorithm in ids.ALGORITHMS:
        with open(leftover, "rb") as file:
            found.append(hashlib.file_digest(file, algorithm).hexdigest())
    return found
