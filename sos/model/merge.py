"""The merge rules of all stores: what is kept of two copies of one blob.

Stores load, merge and save.  As all of them merge by these rules, replicas that have received
the same copies agree, whatever the order.

A blob is a last-writer-wins element set (Shapiro et al., 2011): its metadata has the times at
which it was last stored and last deleted, and the later one says whether there is an object.
The copy of a deleted object is a *tombstone*: metadata without a body.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from sos.errors import Conflict, Deleted, InvalidRequest, NotFound
from sos.model import ids
from sos.model.manifest import MARK
from sos.model.metadata import (
    DELETED_AT,
    INTERNAL,
    NEVER,
    PART_AT,
    SET_AT,
    STORED_AT,
    TICKS,
    Metadata,
    in_ticks,
    is_empty,
    is_tombstone,
    order,
    set_at,
    ticks,
    version,
)

#: A deletion whose time is so many seconds ahead of a server's clock is refused: nothing that is
#: stored meanwhile could be seen.
MAX_SKEW_SECONDS = 300.0


@frozen
class Times:
    """When a blob was last stored and deleted, in ticks; None for never.

    :param stored: as an object.
    :param part: as a chunk of an object.
    :param deleted: by a client.
    """

    stored: int | None
    part: int | None
    deleted: int | None

    @property
    def is_object(self) -> bool:
        """Whether it is an object, which a client has stored and none has deleted since."""
        return self.stored is not None and (self.deleted is None or self.stored >= self.deleted)

    @property
    def has_body(self) -> bool:
        """Whether its bytes are kept: it is an object, or may be a part of one."""
        return self.is_object or self.part is not None


#: The times of a blob from a version that kept none: it is an object.
STORED_ONCE = Times(0, None, None)


def times(metadata: Metadata) -> Times:
    """Return the times in *metadata*.

    An object was stored when its metadata was set, unless :data:`STORED_AT` says otherwise.
    Blobs from versions that kept no times are objects, stored at 0.
    """
    part, deleted = _time(metadata, PART_AT), _time(metadata, DELETED_AT)
    stored = _time(metadata, STORED_AT)
    if stored is None and SET_AT in metadata:
        stored = in_ticks(int(metadata[SET_AT]))
    if stored is part is deleted is None:
        return STORED_ONCE
    return Times(stored, part, deleted)


def assumed(set_at: int) -> Times:
    """Return the times of a copy from :func:`sos.model.metadata.set_at` alone."""
    return STORED_ONCE if set_at == NEVER else Times(in_ticks(set_at), None, None)


def _time(metadata: Metadata, name: str) -> int | None:
    return int(metadata[name]) if name in metadata else None


#: What is added to the metadata of a blob that may be a chunk from a version that marked none.
_MAY_BE_PART = {PART_AT: "0"}


def may_be_part(id: str, metadata: Metadata) -> bool:
    """Return whether *metadata* is that of a chunk, or of an object without metadata, from a
    version that did not tell them apart.
    """
    return not metadata and ids.algorithm(id) is not None


def tombstone(deleted: int) -> dict[str, str]:
    """Return the metadata of an object that was deleted at the time *deleted*, in ticks."""
    return {DELETED_AT: str(deleted)}


def deletion(id: str, copies: Iterable[Metadata], deleted: int) -> dict[str, str]:
    """Return the metadata that deletes the object *id* at the time *deleted*, in ticks.

    :param copies: the metadata of its copies.  If one of them may be a chunk of another object, the
        bytes stay until no manifest names them.
    """
    kept = _MAY_BE_PART if any(may_be_part(id, each) for each in copies) else {}
    return tombstone(deleted) | kept


def deleted(id: str, tombstone: Metadata) -> Deleted:
    """Return the error for the object *id*, which was deleted, with its *tombstone*."""
    return Deleted(f"{id} was deleted", tombstone)


def check_upload(metadata: Metadata) -> Metadata:
    """Return *metadata* that came with a body; raise InvalidRequest if it is of a tombstone."""
    if DELETED_AT in metadata and not times(metadata).has_body:
        raise InvalidRequest("a deleted object has no body")
    return metadata


def check_change(metadata: Metadata, now: float) -> Metadata:
    """Return *metadata* that came alone; raise InvalidRequest if it is of a deletion to come.

    :param now: the time in seconds since the epoch.
    """
    deleted = times(metadata).deleted
    if deleted is not None and deleted > ticks(now + MAX_SKEW_SECONDS):
        raise InvalidRequest(
            f"the deletion is {deleted / TICKS - now:.0f} s in the future: compare the clocks of "
            "the servers"
        )
    return metadata


def other_body(id: str) -> Conflict:
    """Return the error for a body that differs from the one stored under its *id*."""
    algorithm = ids.algorithm(id)
    if algorithm is None:
        return Conflict(f"another body is already stored under the name {id}")
    hash = algorithm.upper().replace("SHA", "SHA-")
    return Conflict(f"another body with the id {id} is stored: both have this {hash}")


def merge(stored: Metadata, received: Metadata) -> dict[str, str]:
    """Merge the metadata of two copies of one blob, but for the mark of a manifest.

    The latest times win.  Of what clients set, see :func:`sos.model.metadata.order`, that wins
    which was set first, unless the object was deleted after that.
    """
    copies = [(times(each), each) for each in (stored, received)]
    deleted_at = _latest(each.deleted for each, _ in copies)
    since = -1 if deleted_at is None else deleted_at
    alive = [
        (each.stored, metadata)
        for each, metadata in copies
        if each.stored is not None and each.stored >= since
    ]
    merged: dict[str, str] = {}
    said = [metadata for _, metadata in alive if in_ticks(set_at(metadata)) >= since]
    if said:
        first = min(said, key=lambda each: order(_client_version(each), set_at(each)))
        merged = {
            name: value for name, value in first.items() if name == SET_AT or name not in INTERNAL
        }
    for name, time in (
        (PART_AT, _latest(each.part for each, _ in copies)),
        (DELETED_AT, deleted_at),
        (STORED_AT, _latest(time for time, _ in alive)),
    ):
        if time is not None and not (name == STORED_AT and times(merged).stored == time):
            merged[name] = str(time)
    return merged


def _client_version(metadata: Metadata) -> str:
    return version({name: metadata[name] for name in metadata.keys() - INTERNAL})


def _latest(times: Iterable[int | None]) -> int | None:
    return max((time for time in times if time is not None), default=None)


def admitted(stored: Metadata, received: Metadata) -> Metadata:
    """Return what counts of metadata that came with a body, where a copy is *stored* already.

    What was said of the object first stays: the copy was there before, whatever the clock of
    who sends another.  Metadata without a time does not replace any.
    """
    if is_tombstone(stored) or (set_at(stored) == NEVER and set_at(received) != 0):
        return received
    found = times(received)
    named = ((STORED_AT, found.stored), (PART_AT, found.part), (DELETED_AT, found.deleted))
    return {name: str(time) for name, time in named if time is not None}


def reconcile(id: str, stored: Metadata | None, received: Metadata) -> dict[str, str]:
    """Return the metadata of a *stored* copy after *received* has come, without a body.

    Metadata without a time is from a server that keeps no times: it does not replace metadata
    with one.

    :param stored: None if there is no copy: then only a tombstone can be stored.
    :raises NotFound: if there is no copy, and *received* is no tombstone.
    :raises Conflict: if one is of the object and the other of its manifest.
    :raises Deleted: if the object was deleted and has been stored again: the body is missing.
    """
    received = merge(received, received) | _mark(received)
    if stored is None:
        if not is_tombstone(received):
            raise NotFound(f"there is no blob {id}")
        return received
    if SET_AT in stored and not (SET_AT in received or is_empty(received)):
        return dict(stored)
    merged = merge(stored, received)
    if is_tombstone(merged):
        return merged
    if is_tombstone(stored):
        raise deleted(id, stored)
    if not is_tombstone(received) and stored.get(MARK) != received.get(MARK):
        raise Conflict(f"one copy of {id} is the object, the other its manifest")
    return merged | _mark(stored)


def join(id: str, stored: Metadata, received: Metadata, same: bool) -> tuple[dict[str, str], bool]:
    """Return the metadata of a blob after another copy has come, and whether that has the body.

    An object replaces its manifest.  A manifest replaces nothing.

    :param same: whether both copies have the same body.
    :raises Conflict: if both have bodies that differ, and neither is a manifest, or the id says
        nothing about the body.
    :raises Deleted: if the object was deleted after it was stored.
    """
    merged = merge(stored, admitted(stored, received))
    if int(received.get(SET_AT, 0)) and may_be_part(id, stored):
        merged = merge(merged, _MAY_BE_PART)
    if is_outdated(received, merged):
        raise deleted(id, merged)
    if is_tombstone(stored):
        return merged | _mark(received), True
    if same:
        return merged | _mark(stored), False
    if ids.algorithm(id) is None or not (MARK in received or MARK in stored):
        raise other_body(id)
    return (merged | _mark(stored), False) if MARK in received else (merged, True)


def is_outdated(received: Metadata, merged: Metadata) -> bool:
    """Return whether a *received* copy came too late: its object was deleted since.

    A copy that is a chunk, too, is wanted all the same.

    :param merged: its metadata, merged with what else is known.
    """
    found = times(received)
    is_upload = found.stored is not None and found.part is None
    return is_tombstone(merged) or (is_upload and not times(merged).is_object)


def renew(stored: Metadata, received: Metadata) -> dict[str, str]:
    """Return the metadata of a *received* copy, whose body replaces an unreadable *stored* one."""
    return merge(stored, admitted(stored, received)) | _mark(received)


def _mark(metadata: Metadata) -> dict[str, str]:
    return {MARK: metadata[MARK]} if MARK in metadata else {}
