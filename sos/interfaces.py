"""The interfaces of blob stores, and the values that they exchange.

A blob server, a directory, a group of servers: each is a store, and each
passes the same contract suite (``tests/contract.py``).  Blobs are immutable:
an id, once stored, means the same bytes for ever.

Every method that may wait is a coroutine function.  Cancelling one never
harms the store: its change happens completely or not at all.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from typing import Any, Protocol, runtime_checkable

import attrs
from attrs import Factory, field, frozen
from attrs.validators import optional
from zope.interface import Attribute, Interface

from sos.model import ids
from sos.model.digest import BlobDigest, PartitionDigest
from sos.model.ids import is_store_id
from sos.model.membership import View
from sos.model.metadata import EMPTY, Metadata

#: A body of more bytes than this is handled in pieces.
SMALL_BODY = 64 * 1024
# In seconds since the epoch; Python cannot represent later dates.
_YEAR_10000 = 253_402_300_800


class Pieces(Protocol):
    """The pieces of a body, in order, none empty; an async generator is one.

    Close it after use, whether or not it was read to its end: see
    :func:`contextlib.aclosing`.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


#: A part of a body: the offsets of its first byte and of the byte after its last, from 0.
Span = tuple[int, int]


@runtime_checkable
class FilePieces(Pieces, Protocol):
    """Pieces that lie in a file, for callers that send them without reading them."""

    def fileno(self) -> int: ...

    def spans(self) -> AsyncGenerator[Span, None]:
        """Yield the position of each piece in the file, instead of the piece."""
        ...


@frozen
class BlobInfo:
    """A description of a blob, without its body.

    :param size: of the body, in bytes; None where the store does not report it
        (the original system's servers do not, for a larger one).
    :param metadata: see :mod:`sos.model.metadata`.
    :param stored_at: when this copy was stored, in seconds since the epoch;
        None where the store does not report it.
    :param copies: the number of copies made, when it has just been stored.
    :param store: the id of the store that has just stored it, where the store reports one.
    :param expires_at: when it expires, in seconds since the epoch, as an API server tells its
        clients; None for never.
    """

    id: str
    size: int | None
    metadata: Metadata
    stored_at: float | None = None
    copies: int = 1
    store: str | None = None
    expires_at: float | None = None


@frozen
class Blob:
    """A blob that is open for reading.

    :param body: the whole body when it is small, otherwise its pieces.
        The pieces raise :exc:`~sos.errors.Mismatch` before the last of them
        when the body does not match its id, and
        :exc:`~sos.errors.Unavailable` when they cannot be read to the end.
    """

    info: BlobInfo
    body: bytes | Pieces


def is_size(value: object) -> bool:
    """Return whether *value* can be a number of bytes or blobs: an integer from 0 to 2**63 - 1."""
    return type(value) is int and 0 <= value < 1 << 63


def parse_size(text: bytes | str) -> int | None:
    """Return the size in a header's *text*, or None if it is not one, see :func:`is_size`."""
    size = int(text) if text.isdigit() and text.isascii() and len(text) < 20 else -1
    return size if is_size(size) else None


def _is_count(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not is_size(value):
        raise TypeError(f"{attribute.name} is not a number of bytes or blobs")


def _is_text(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"{attribute.name} is not a string")


def _is_id(status: StoreStatus, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or is_store_id(value)):
        raise TypeError(f"{attribute.name} is not a UUID")


def _tuple(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _are_ids(status: StoreStatus, attribute: attrs.Attribute[Any], value: object) -> None:
    assert isinstance(value, tuple)
    for id in value:
        ids.check(id)


def is_time(value: object) -> bool:
    """Return whether *value* can be a time, in seconds since the epoch, before the year 10000."""
    return isinstance(value, (int, float)) and 0 <= value < _YEAR_10000


def _is_time(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not is_time(value):
        raise TypeError(f"{attribute.name} is not a time")


def _is_position(status: object, attribute: attrs.Attribute[Any], value: str) -> None:
    ids.check(value)


def _is_yes_or_no(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} is not a boolean")


@frozen
class ScrubStatus:
    """The progress and findings of a store's scrub: see :class:`sos.scrub.Report`.

    :raises TypeError: if a value has another type.
    :raises InvalidId: if the position is not an id.
    """

    position: str | None = field(validator=optional(_is_position))
    started_at: float | None = field(validator=optional(_is_time))
    finished_at: float | None = field(validator=optional(_is_time))
    checked: int = field(validator=_is_count)
    bytes: int = field(validator=_is_count)
    damaged: int = field(validator=_is_count)
    unreadable: int = field(validator=_is_count)


@frozen
class StoreStatus:
    """The state of a store.

    :param writable: whether it accepts blobs now.
    :param reason: why it accepts none, if so.
    :param blobs: the number that it holds, tombstones included; None if unknown.
    :param size: of their bodies together, in bytes, None if unknown.
    :param capacity: of its disk or engine, in bytes, None if unknown.
    :param free: bytes of the capacity that are free.
    :param scrub: the scrub's status, where the server reports it.
    :param lost: the number of blobs that it held and cannot serve any more, because they are
        damaged or unreadable; None where it does not report it.  *lost_ids* are some of them.
    :param id: of the store, a UUID.  Two servers with the same id are one store, whatever
        their addresses.  None where it reports none, as servers of the release before.
    :param others: the views of the cluster that differ from this API server's, as far as the
        server has received them; None where it does not take part.
    :param tombstones: whether it remembers deletions, see :mod:`sos.model.merge`; servers of the
        original system and of 0.1.0 do not.
    :param time: when the server sent this, in seconds since the epoch, by its own clock; None where
        it does not say so.
    :raises TypeError: if a value has another type.
    """

    writable: bool = field(validator=_is_yes_or_no)
    reason: str | None = field(default=None, validator=_is_text)
    blobs: int | None = field(default=None, validator=optional(_is_count))
    size: int | None = field(default=None, validator=optional(_is_count))
    capacity: int | None = field(default=None, validator=optional(_is_count))
    free: int | None = field(default=None, validator=optional(_is_count))
    scrub: ScrubStatus | None = None
    lost: int | None = field(default=None, validator=optional(_is_count))
    lost_ids: tuple[str, ...] = field(default=(), converter=_tuple, validator=_are_ids)
    id: str | None = field(default=None, validator=_is_id)
    others: tuple[View, ...] | None = None
    tombstones: bool = field(default=False, validator=_is_yes_or_no)
    time: float | None = field(default=None, validator=optional(_is_time))

    @property
    def refusal(self) -> str | None:
        """Why the store accepts no blobs now, None when it accepts them."""
        return None if self.writable else self.reason or "it is not writable"


@frozen
class Upload:
    """A resumable upload, which arrives in several requests.

    :param length: of the whole, in bytes.
    :param metadata: of the object that it becomes.
    :param told: the metadata as the client sent it, to return when a client asks for it.
    :param offset: the number of bytes on stable storage.
    :param id: of the object, once it is stored.
    """

    length: int
    metadata: Metadata
    told: str
    offset: int = 0
    id: str | None = None

    @property
    def acknowledged(self) -> int:
        """The number of bytes that the client need not send again.

        The last byte counts only when the object is stored: a client whose bytes are all
        acknowledged takes the object for stored, and would not retry if storing it failed.
        """
        return self.length if self.id else min(self.offset, max(self.length - 1, 0))


#: Opens a blob for reading, see :meth:`IBlobStore.read`.
Read = Callable[[str, Span | None], Awaitable[Blob]]


class IBlobWriter(Interface):
    """A blob that is being written to a store.

    Call ``commit`` once at its end, or ``abort`` any number of times.  Until a
    commit has succeeded nothing of the blob can be read, and after an abort
    nothing of it is left.
    """

    async def write(piece: bytes) -> None:
        """Write the next *piece* of the body; return when the writer accepts another.

        Raises NoSpace, ReadOnly or Unavailable.
        """

    async def commit() -> BlobInfo:
        """Make the blob durable, and only then return its id and size.

        If the store holds the blob already, commit succeeds, and the metadata of
        both is merged, see :mod:`sos.model.merge`.  An object and its manifest, see
        :mod:`sos.model.manifest`, are one blob: the object replaces its
        manifest, and a manifest never replaces the object.

        :raises Incomplete: if the body does not have the announced size.
        :raises Mismatch: if it does not hash to its content id or, where the
            metadata marks it as a manifest, is not the manifest of its id.
        :raises Conflict: if other bytes are stored under its id.  For a
            content id that is a collision of the hash.
        :raises Deleted: if the object was deleted after the time of this upload.
        :raises NoSpace, ReadOnly, Unavailable: After Unavailable the blob may
            have been stored; after the others it was not.
        """

    def abort() -> None:
        """Forget the blob; after a commit, do nothing."""


class IBlobStore(Interface):
    """A place that keeps blobs."""

    name: str = Attribute("What to call it in a log: its address or directory.")

    async def stat(id: str) -> BlobInfo:
        """Describe a blob that is stored completely.  Raises NotFound or Unavailable.

        NotFound is :exc:`~sos.errors.Deleted` where the store has a tombstone.
        """

    async def read(id: str, span: Span | None = None) -> Blob:
        """Open a blob for reading.

        A small body is verified before it is returned, a larger one as its
        pieces pass.  Raises NotFound or Unavailable.

        :param span: the part to read, within the body.  A store verifies it by hashes of
            blocks; bodies that earlier versions stored may have none, and a remote store cannot
            verify a part at all.  ``info.size`` is the size of the whole body.
        """

    def writer(
        id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        """Begin to store a blob.

        :param id: its id, or None to store it under its content id.
        :param size: of the body in bytes, where it is known; a body of any
            other size then raises Incomplete.

        Raises NoSpace or ReadOnly if the store knows already that it cannot
        store the blob.
        """

    async def status() -> StoreStatus:
        """Return the state of the store.  Raises Unavailable."""


class IOneStepStore(IBlobStore):
    """A store that takes a small blob in one step."""

    async def put(id: str | None, metadata: Metadata, body: bytes) -> BlobInfo:
        """Store a small blob, as by a writer, and raise the same errors.

        :param body: at most :data:`SMALL_BODY` bytes.
        """


class IPromptStore(IOneStepStore):
    """A store that has small blobs at hand."""

    def peek(id: str) -> Blob | None:
        """Return a small blob with its body, verified, without waiting.

        Return None if it is not at hand: it may be large, damaged or missing.  Then ``read``
        returns it, or raises the reason.
        """


class IObjectStore(IBlobStore):
    """A store that assembles objects from chunks.

    An object that lacks a chunk is neither found nor missing: ``stat`` and ``read``
    raise Unavailable.  Uploading it again repairs it.
    """

    async def outline(id: str) -> BlobInfo:
        """Describe an object as ``stat`` does, but do not look for its chunks.

        It is for callers that read the object next, which looks for the chunks.
        Raises NotFound or Unavailable.
        """


class IReplicaStore(IBlobStore):
    """A store that can be a replica: one of several stores that hold the same blobs.

    A server of the original system supports none of these methods: they raise
    NotFound for it; :meth:`listing` it has.
    """

    async def listing(
        after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        """List ids in the order of :func:`sos.model.ids.sort_key`.

        :param after: begin after this id, whether it is stored or not.
        :param limit: the most ids to list.
        :param partition: list only this one, see :func:`sos.model.ids.partition`.

        Raises Unavailable, rather than return an incomplete listing.
        """

    async def digests() -> Mapping[str, PartitionDigest]:
        """Return the digest of each partition that holds anything, by its name.

        Where the store can detect changes, it returns the same object until
        something changes, so that callers can skip it.  Raises Unavailable.
        """

    async def blob_digests(partition: str) -> dict[str, BlobDigest]:
        """Return the digest of each blob in *partition*, by id.  Raises Unavailable."""

    async def reconcile(id: str, metadata: Metadata) -> None:
        """Reconcile metadata: merge *metadata* into that of a blob.

        See :mod:`sos.model.merge`: two stores that receive each other's metadata
        end with the same.  A tombstone deletes the object: its body is removed,
        and the tombstone stays in the digests, but not in listings.  It is durable
        on return.  Raises NotFound if there is no such blob, unless *metadata* is a
        tombstone, Deleted if it is of a deleted object that was stored again,
        Conflict if one is the object and the other its manifest, NoSpace, ReadOnly
        or Unavailable.
        """

    async def lease(seconds: float, token: str | None = None) -> str:
        """Return a token that allows drops for *seconds*, at most 300.

        Only one lease is valid at a time.  Raises Conflict while another is
        valid, NoSpace, ReadOnly or Unavailable.

        :param token: of a valid lease to extend to *seconds* from now; raises
            Conflict if it is not valid any more.
        """

    async def release(token: str) -> None:
        """Release a lease, valid or not.  Raises NoSpace, ReadOnly or Unavailable."""

    async def drop(id: str, token: str, known: BlobDigest | None = None) -> None:
        """Remove a blob, durably; succeed also if there is no such blob.

        Raises Conflict unless *token* belongs to the valid lease, NoSpace,
        ReadOnly or Unavailable.

        :param known: the blob's digest when it was listed; if it has changed
            since, the blob stays, and this raises Conflict.  None drops it anyhow.
        """


class IEngineStore(IReplicaStore):
    """A store in another program: Redis, PostgreSQL, an object store.

    Several processes can be clients of the same one at the same time.  A
    request reconnects if the connection was lost, and raises Unavailable if
    that fails, so nothing has to be restarted.  Requests raise Unavailable
    also before the store is open.
    """

    identity: str | None = Attribute(
        "The UUID that the store keeps in itself, by which it is known wherever it is reached; "
        "None before it is open, and while one from before stores had ids cannot be given its own."
    )

    async def open(require: bool = False) -> None:
        """Connect, identify the store, and check that the engine's settings are safe.

        If the engine is empty, make a new store, and log that.

        :param require: whether the store has to exist already.
        :raises StoreUnusable: if retrying cannot help: a wrong password, another
            format, settings that can lose acknowledged blobs, or no store where
            one is required.
        :raises Unavailable: if the engine cannot be reached.  Then call it again.
        """

    async def close() -> None:
        """Finish the requests in flight, and close all connections."""


class IStoreFactory(Interface):
    """A factory for stores of one kind, for ``--store SCHEME:...``.

    It is a Twisted plugin, found by its scheme: put an object that provides
    this interface into a module of the package ``twisted.plugins``.
    """

    scheme: str = Attribute("The scheme of the URLs that it understands: ``redis``.")

    def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
        """Return the store that *url* describes; nothing is connected or opened yet.

        :param algorithm: the hash of new content ids.
        :raises ValueError: naming the error in the URL, without the password.
            The store's name must not contain the password either.
        """


@frozen
class Member:
    """A store as a member of a group.

    :param readonly: never write to it.
    :param preferred: read from it before the other members.
    :param weight: its share of the blobs, relative to the other members.
    :param name: its name for placement, and in logs; the name of its store by default.
    """

    store: IReplicaStore
    readonly: bool = False
    preferred: bool = False
    weight: float = 1.0
    name: str = Factory(lambda self: self.store.name, takes_self=True)


#: Members that keep copies for each other, by the name of their group.
Groups = Mapping[str, tuple[Member, ...]]
