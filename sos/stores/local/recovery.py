"""What a crash left in ``incoming/``, settled when the store is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sos.errors import InvalidId
from sos.files.regular import NotRegular, open_regular
from sos.model import ids
from sos.stores.local.body_file import read_trailer
from sos.stores.local.disk import Layout
from sos.stores.local.index import Index
from sos.stores.record import has_file

#: In place of the id that is not known yet; it is none.
UNNAMED = "NEW"


def incoming_name(id: str | None, token: str) -> str:
    """Name the file of an upload; recovery looks for its blob by that name."""
    return f"{id or UNNAMED}.{token}"


def settle_incoming(layout: Layout, index: Index) -> int:
    """Remove every file that no one will finish, and return how many there were.

    None of them was acknowledged, for the incoming name goes last.  A file
    that has its place in ``bodies/`` already keeps it only if a record in the
    index has its body there.  The time this takes depends on what was under way, not on what is
    stored.
    """
    leftovers = list(layout.incoming.iterdir())
    for leftover in leftovers:
        if leftover.lstat().st_nlink > 1:
            for id in _possible_ids(leftover):
                if not has_file(id, index.get(id)):
                    layout.withdraw(leftover, id)
        leftover.unlink()
    if leftovers:
        layout.sync_directory(layout.incoming)
    return len(leftovers)


def _possible_ids(leftover: Path) -> list[str]:
    name = leftover.name.partition(".")[0]
    if name != UNNAMED:
        try:
            return [ids.check(name)]
        except InvalidId:  # which no upload had
            return []
    try:
        file = open_regular(leftover)
    except NotRegular:  # of which no body was made
        return []
    with file:
        if described := read_trailer(file):
            return [described[0].id]
        # From before a file told its id.
        found = []
        for algorithm in ids.ALGORITHMS:
            file.seek(0)
            found.append(hashlib.file_digest(file, algorithm).hexdigest())
        return found
