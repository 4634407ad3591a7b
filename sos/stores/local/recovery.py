"""Clean up the files that a crash left in ``incoming/``, when the store is opened."""

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

#: Stands for an id that is not known yet; no id has this form.
UNNAMED = "NEW"


def incoming_name(id: str | None, token: str) -> str:
    """Return the file name of an upload; recovery finds its blob by the id in it."""
    return f"{id or UNNAMED}.{token}"


def clear_incoming(layout: Layout, index: Index) -> int:
    """Remove all files in ``incoming/``, and return how many there were.

    A file that is linked into ``bodies/`` as well stays there only if the index has a
    record for it.  The name in ``incoming/`` is removed last, so no acknowledged blob is lost.
    The time this takes depends on the number of uploads in flight, not of stored blobs.
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
        except InvalidId:  # no upload made this file
            return []
    try:
        file = open_regular(leftover)
    except NotRegular:  # this was never a body
        return []
    with file:
        if described := read_trailer(file):
            return [described[0].id]
        # A file of an earlier version, without a trailer.
        found = []
        for algorithm in ids.ALGORITHMS:
            file.seek(0)
            found.append(hashlib.file_digest(file, algorithm).hexdigest())
        return found
