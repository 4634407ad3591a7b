"""The merge rules of all stores: which of two versions of one blob a store keeps.

Stores load, merge and save.  As all of them merge by these rules, replicas that have received
the same versions agree, whatever the order.
"""

from __future__ import annotations

from sos.errors import Conflict
from sos.model import ids
from sos.model.manifest import MARK
from sos.model.metadata import Metadata, precedes, unmarked


def other_body(id: str) -> Conflict:
    """Return the error for a body that differs from the one stored under its *id*."""
    algorithm = ids.algorithm(id)
    if algorithm is None:
        return Conflict(f"another body is already stored under the name {id}")
    hash = algorithm.upper().replace("SHA", "SHA-")
    return Conflict(f"another body with the id {id} is stored: both have this {hash}")


def replaces_metadata(id: str, stored: Metadata, received: Metadata) -> bool:
    """Return whether *received* metadata replaces the *stored* metadata of the same body.

    The metadata that was set first wins, see :func:`sos.model.metadata.precedes`.

    :raises Conflict: if one is of the object and the other of its manifest.
    """
    if stored.get(MARK) != received.get(MARK):
        raise Conflict(f"one copy of {id} is the object, the other its manifest")
    return precedes(received, stored)


def replaces_body(id: str, stored: Metadata, received: Metadata) -> dict[str, str] | None:
    """Decide between two different bodies of one id, by their metadata.

    An object replaces its manifest, and keeps the manifest's metadata.  A manifest replaces
    nothing: the stored object or manifest stays.

    :returns: the metadata with which the received body replaces the stored one, or None if
        the stored one stays.
    :raises Conflict: if neither is a manifest, or the id says nothing about the body.
    """
    if ids.algorithm(id) is None or not (MARK in received or MARK in stored):
        raise other_body(id)
    if MARK in received:
        return None
    return unmarked(stored)
