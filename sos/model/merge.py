"""The merge rules of all stores: what is kept of two copies of one blob.

Stores load, merge and save.  As all of them merge by these rules, replicas that have received
the same copies agree, whatever the order.

A blob is a last-writer-wins element set (Shapiro et al., 2011): its metadata has the times at
which it was last stored and last deleted, and the later one says whether there is an object.
The copy of a deleted object is a *tombstone*: metadata without a body.

An object that expires has the latest expiry of its uploads since it was deleted, and one upload
without an expiry keeps it for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from sos.errors import Conflict, Deleted, InvalidRequest, NotFound
from sos.model import ids
from sos.model.manifest import MARK
from sos.model.metadata import (
    DELETED_AT,
    EXPIRES_AT,
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
    :param expires: when it stops to be an object; None for never.
    """

    stored: int | None
    part: int | None
    deleted: int | None
    expires: int | None = None

    @property
    def is_object(self) -> bool:
        """Whether it is an object, which a client has stored and none has deleted since."""
        return self.outlives(self.deleted)

    def outlives(self, deleted: int | None) -> bool:
        """Return whether it was stored as an object, and not before the time *deleted*."""
        return self.stored is not None and (deleted is None or self.stored >= deleted)

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
    return Times(stored, part, deleted, _time(metadata, EXPIRES_AT))


def assumed(set_at: int) -> Times:
    """Return the times of a copy from :func:`sos.model.metadata.set_at` alone."""
    return STORED_ONCE if set_at == NEVER else Times(in_ticks(set_at), None, None)


def _time(metadata: Metadata, name: str) -> int | None:
    return int(metadata[name]) if name in metadata else None


# What is added to the metadata of a blob that may be a chunk from a version that marked none.
_MAY_BE_PART = {PART_AT: "0"}


def may_be_part(id: str, metadata: Metadata) -> bool:
    """Return whether *metadata* is from a version that did not tell chunks from objects.

    Such a blob can be both.
    """
    return not (_has_time(metadata) or MARK in metadata or ids.algorithm(id) is None)


def _has_time(metadata: Metadata) -> bool:
    other_times = STORED_AT, PART_AT, DELETED_AT
    return metadata.get(SET_AT, "0") != "0" or any(name in metadata for name in other_times)


def tombstone(deleted: int) -> dict[str, str]:
    """Return the metadata of an object that was deleted at the time *deleted*, in ticks."""
    return {DELETED_AT: str(deleted)}


def deleted(id: str, tombstone: Metadata) -> Deleted:
    """Return the error for the object *id*, which was deleted, with its *tombstone*."""
    return Deleted(f"{id} was deleted", tombstone)


def check_upload(metadata: Metadata) -> Metadata:
    """Return *metadata* that came with a body; raise InvalidRequest if it is of a tombstone."""
    if DELETED_AT in metadata and not times(metadata).has_body:
        raise InvalidRequest("a deleted object has no body")
    return _check_expiry(metadata)


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
    return _check_expiry(metadata)


def _check_expiry(metadata: Metadata) -> Metadata:
    if EXPIRES_AT in metadata and STORED_AT not in metadata:
        raise InvalidRequest(f"{EXPIRES_AT} came without {STORED_AT}")
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
    known = latest(each for each, _ in copies)
    since = -1 if known.deleted is None else known.deleted
    merged: dict[str, str] = {}
    said = [
        metadata
        for each, metadata in copies
        if each.stored is not None and min(each.stored, in_ticks(set_at(metadata))) >= since
    ]
    if said:
        first = min(said, key=lambda each: order(_client_version(each), set_at(each)))
        merged = {
            name: value for name, value in first.items() if name == SET_AT or name not in INTERNAL
        }
    # Versions leave SET_AT out.  If they contain other times, they must contain STORED_AT, too.
    is_alone = known == Times(times(merged).stored, None, None)
    return merged if is_alone else merged | _named(known)


def latest(copies: Iterable[Times]) -> Times:
    """Return the times of a blob from those of its *copies*: the latest of each.

    What was stored before the last deletion does not count.
    """
    found = list(copies)
    deleted = _latest(each.deleted for each in found)
    alive = [each for each in found if each.outlives(deleted)]
    expires = [each.expires for each in alive]
    return Times(
        _latest(each.stored for each in alive),
        _latest(each.part for each in found),
        deleted,
        None if None in expires else _latest(expires),
    )


def _named(times: Times) -> dict[str, str]:
    """Return *times* as metadata."""
    found = {
        STORED_AT: times.stored,
        PART_AT: times.part,
        DELETED_AT: times.deleted,
        EXPIRES_AT: times.expires,
    }
    return {name: str(time) for name, time in found.items() if time is not None}


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
    return _named(times(received))


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
        return _keep_part(id, dict(stored), stored, received) | _mark(stored)
    merged = merge(stored, received)
    if not is_tombstone(stored):
        merged = _keep_part(id, merged, stored, received)
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
    if not is_tombstone(stored):
        merged = _keep_part(id, merged, stored, received)
    if is_outdated(received, merged):
        raise deleted(id, merged)
    if is_tombstone(stored):
        return merged | _mark(received), True
    if same:
        return merged | _mark(stored), False
    if ids.algorithm(id) is None or not (MARK in received or MARK in stored):
        raise other_body(id)
    return (merged | _mark(stored), False) if MARK in received else (merged, True)


def _keep_part(
    id: str, merged: dict[str, str], stored: Metadata, received: Metadata
) -> dict[str, str]:
    """Return *merged* with a mark if just one of the two may be a chunk of an older version.

    Otherwise nobody could tell any more, and a deletion would take the bytes from other objects.
    """
    for one, other in ((stored, received), (received, stored)):
        if may_be_part(id, one) and _has_time(other):
            return merge(merged, _MAY_BE_PART)
    return merged


def is_outdated(received: Metadata, merged: Metadata) -> bool:
    """Return whether a *received* copy came too late: its object was deleted since.

    A copy that is a chunk, too, is wanted all the same.  So is one of an object that was stored
    again since, unless that expires before this copy would have.

    :param merged: its metadata, merged with what else is known.
    """
    found, known = times(received), times(merged)
    is_upload = found.stored is not None and found.part is None
    if is_tombstone(merged) or (is_upload and not known.is_object):
        return True
    ends_earlier = known.expires is not None and (
        found.expires is None or found.expires > known.expires
    )
    return is_upload and ends_earlier and not found.outlives(known.deleted)


def renew(stored: Metadata, received: Metadata) -> dict[str, str]:
    """Return the metadata of a *received* copy, whose body replaces an unreadable *stored* one."""
    return merge(stored, admitted(stored, received)) | _mark(received)


def _mark(metadata: Metadata) -> dict[str, str]:
    return {MARK: metadata[MARK]} if MARK in metadata else {}
