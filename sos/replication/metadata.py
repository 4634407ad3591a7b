"""The metadata that all copies of a blob are to have: merged from those of the servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from attrs import evolve, frozen

from sos.aio.gather import within
from sos.errors import Deleted
from sos.interfaces import IReplicaStore
from sos.model import merge
from sos.model.digest import BlobDigest
from sos.model.manifest import MARK
from sos.model.metadata import NEVER, Metadata, is_tombstone, timed, version

# Timeout in seconds, to read or replace the metadata of a blob.
_SECONDS = 30.0


@frozen
class Merged:
    """The metadata of a blob, merged.

    :param metadata: without the mark of a manifest.
    :param mark: the mark of its manifest, None if no server has one.
    """

    metadata: Metadata
    mark: str | None

    def of_kind(self, kind: str) -> Metadata:
        """Return the metadata for a copy whose version begins with *kind*."""
        if kind == "1" and self.mark is not None and not is_tombstone(self.metadata):
            return {**self.metadata, MARK: self.mark}
        return self.metadata


async def merged(
    stores: Mapping[str, IReplicaStore], names: Iterable[str], id: str, clock: Any
) -> Merged:
    """Merge the metadata of the blob *id* on the servers *names*; raise as ``stat`` does."""
    found: list[Metadata] = []
    for name in names:
        try:
            info = await within(_SECONDS, stores[name].stat(id), clock)
            # Metadata without a time is older than all that has one.
            found.append(timed(info.metadata, 0))
        except Deleted as error:
            found.append(error.metadata)
    mark = next((each[MARK] for each in found if MARK in each), None)
    return Merged(reduce(merge.merge, found, found[0]), mark)


async def send(store: IReplicaStore, id: str, held: str, wanted: Merged, clock: Any) -> bool:
    """Reconcile a copy with *wanted* metadata, unless its version *held* shows that it has it.

    :returns: whether the metadata was sent.
    """
    metadata = wanted.of_kind(held[:1])
    if version(metadata) == held:
        return False
    await within(_SECONDS, store.reconcile(id, metadata), clock)
    return True


def alive(copies: Mapping[str, BlobDigest]) -> dict[str, BlobDigest]:
    """Return those of *copies* whose bodies are kept: no server knows of a later deletion."""
    deleted = max((copy.times.deleted or 0 for copy in copies.values()), default=0) or None
    return {
        name: copy
        for name, copy in copies.items()
        if not copy.is_tombstone and evolve(copy.times, deleted=deleted).has_body
    }


def sources(copies: Mapping[str, BlobDigest]) -> tuple[str, ...]:
    """Return one server for each version of the metadata: the one where it was set first."""
    found: dict[str, str] = {}
    for name in sorted(copies, key=lambda name: (copies[name].order[1], name)):
        found.setdefault(copies[name].version, name)
    return tuple(sorted(found.values()))


def lacking(copies: Mapping[str, BlobDigest]) -> frozenset[str]:
    """Return the servers whose metadata may not be the merged metadata of all *copies*.

    Versions of an object and of its manifest always differ: of those only the times count.
    """
    by_version: dict[str, list[BlobDigest]] = {}
    for copy in copies.values():
        by_version.setdefault(copy.version, []).append(copy)
    deleted = merge.latest(copy.times for copy in copies.values()).deleted
    known = {version: _known(alike, deleted) for version, alike in by_version.items()}
    best = _known(copies.values(), deleted)
    complete = [version for version in known if known[version] == best]
    return frozenset(
        name
        for name, copy in copies.items()
        if known[copy.version] != best
        or any(other != copy.version and other[:1] == copy.version[:1] for other in complete)
    )


def _known(
    copies: Iterable[BlobDigest], deleted: int | None
) -> tuple[int, merge.Times, int | None]:
    """Return the first time at which metadata was set, and the latest of all others.

    What was set or stored before the time *deleted* does not count.  Last is when *copies*
    themselves say that the object was deleted.
    """
    found = list(copies)
    firsts = [copy.order[1] for copy in found if copy.order[1] >= (deleted or 0)]
    times = [copy.times for copy in found]
    alive = merge.latest([*times, merge.Times(None, None, deleted)])
    return min(firsts, default=NEVER), alive, merge.latest(times).deleted
