"""The blob store: what every one of them promises.

A blob server, a directory, a group of servers: each is a store, and each
passes the same contract suite (``tests/contract.py``).  Blobs are immutable:
an id, once stored, means the same bytes for ever.

Every method that may wait is a coroutine function.  Cancelling one never
harms the store: what it was doing either happens whole or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
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

#: A body that is longer than this many bytes is handled in pieces.
SMALL_BODY = 64 * 1024
# In seconds since the epoch; no date behind it can be told.
_YEAR_10000 = 253_402_300_800


class Pieces(Protocol):
    """The pieces of a body, in order, none empty; an async generator is one.

    Close it after use, whether or not it was read to its end: see
    :func:`contextlib.aclosing`.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


#: A part of a body: its first byte and the one behind its last, from 0.
Span = tuple[int, int]


@runtime_checkable
class FilePieces(Pieces, Protocol):
    """Pieces that lie in a file, from which they can be sent without being handled."""

    def fileno(self) -> int: ...

    def spans(self) -> AsyncGenerator[Span, None]:
        """Tell, instead of the pieces, where in the file they lie."""
        ...


@frozen
class BlobInfo:
    """What a store knows of a blob without its body.

    :param size: of the body, in bytes; None where the store does not tell (the
        original system's servers do not, for a larger one).
    :param metadata: see :mod:`sos.model.metadata`.
    :param stored_at: when this copy was stored, in seconds since the epoch;
        None where the store does not tell.
    :param copies: how many of it were made, when it has just been stored.
    :param store: the id of the store that it has just been stored in, where that tells.
    """

    id: str
    size: int | None
    metadata: Metadata
    stored_at: float | None = None
    copies: int = 1
    store: str | None = None


@frozen
class Blob:
    """A blob that is being read.

    :param body: the whole body when it is small, otherwise its pieces.
        Pieces end with :exc:`~sos.errors.Mismatch` before the last of them
        when the body does not match its id, and with
        :exc:`~sos.errors.Unavailable` when they cannot be read to the end.
    """

    info: BlobInfo
    body: bytes | Pieces


def is_size(value: object) -> bool:
    """Tell whether *value* can be a number of bytes, or of blobs: a whole one below 2**63."""
    return type(value) is int and 0 <= value < 1 << 63


def parse_size(text: bytes | str) -> int | None:
    """Return the size that a header tells, None for what :func:`is_size` would say no to."""
    size = int(text) if text.isdigit() and text.isascii() and len(text) < 20 else -1
    return size if is_size(size) else None


def _is_count(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not is_size(value):
        raise TypeError(f"a number as {attribute.name}")


def _is_text(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"a text as {attribute.name}")


def _is_id(status: StoreStatus, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or is_store_id(value)):
        raise TypeError(f"a UUID as {attribute.name}")


def _tuple(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _are_ids(status: StoreStatus, attribute: attrs.Attribute[Any], value: object) -> None:
    assert isinstance(value, tuple)
    for id in value:
        ids.check(id)


def _is_time(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, (int, float)) and 0 <= value < _YEAR_10000):
        raise TypeError(f"a time as {attribute.name}")


def _is_position(status: object, attribute: attrs.Attribute[Any], value: str) -> None:
    ids.check(value)


def _is_yes_or_no(status: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"yes or no as {attribute.name}")


@frozen
class ScrubStatus:
    """How far the scrub of a store is, and what it found: see :class:`sos.scrub.Report`.

    :raises TypeError: when one of them is of another type, InvalidId for a position.
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
    """How a store is doing.

    :param writable: whether it takes blobs now.
    :param reason: why not, when it does not.
    :param blobs: how many it holds, None when that is not known.
    :param size: of their bodies together, in bytes, None when not known.
    :param capacity: of what it stores on, in bytes, None when not known.
    :param free: of that, in bytes.
    :param scrub: of a server that tells of its own.
    :param lost: how many blobs it held and cannot give any more, for they are damaged or cannot
        be read, None when it does not tell; *lost_ids* are some of them.
    :param id: of the store, a UUID: by that, and by no address, two servers are known to
        be one store.  None where it does not tell, as servers of the release before.
    :param others: what other API servers go by than this one, as far as the server has
        heard; None where it does not listen for that.
    :raises TypeError: when one of them is of another type.
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

    @property
    def refusal(self) -> str | None:
        """Why it takes no blobs now, None when it does."""
        return None if self.writable else self.reason or "it is not writable"


@frozen
class Upload:
    """An upload that comes in several requests.

    :param length: of the whole, in bytes.
    :param metadata: of the object that it becomes.
    :param told: the metadata as the client told it, for those who ask.
    :param offset: bytes that are on stable storage.
    :param id: of the object, once that is stored.
    """

    length: int
    metadata: Metadata
    told: str
    offset: int = 0
    id: str | None = None

    @property
    def acknowledged(self) -> int:
        """Bytes that the client need not send again.

        The last one counts when the object is stored: a client that is told of all of them
        takes it for that, and if storing failed nobody would try again.
        """
        return self.length if self.id else min(self.offset, max(self.length - 1, 0))


class IBlobWriter(Interface):
    """One blob on its way into a store.

    It ends with one ``commit`` or any number of ``abort``.  Until a commit
    has succeeded nothing of it can be read, and after an abort nothing of it
    is left.
    """

    async def write(piece: bytes) -> None:
        """Take the next *piece* of the body; returns when it can take another.

        Raises NoSpace, ReadOnly or Unavailable.
        """

    async def commit() -> BlobInfo:
        """Make the blob durable, and only then return its id and size.

        A blob that the store holds already is a success, and keeps the
        metadata and the time that it has.  An object and its manifest, see
        :mod:`sos.model.manifest`, are one blob: the object itself takes the place of
        its manifest, and no manifest that of the object.  Raises Incomplete when the body is
        not of the size announced, Mismatch when it does not hash to its
        content id or, where the metadata marks it, is not its manifest,
        Conflict when other bytes are stored under its id, which for a content
        id is a collision of the hash, and NoSpace, ReadOnly or Unavailable;
        then nothing was stored, but for Unavailable, after which it may have
        been.
        """

    def abort() -> None:
        """Forget the blob; after a commit, do nothing."""


class IBlobStore(Interface):
    """A place that keeps blobs."""

    name: str = Attribute("What to call it in a log: its address or directory.")

    async def stat(id: str) -> BlobInfo:
        """Describe a blob that is there, whole.  Raises NotFound or Unavailable."""

    async def read(id: str, span: Span | None = None) -> Blob:
        """Open a blob for reading.

        A small body is verified before it is returned, a larger one as its
        pieces pass.  Raises NotFound or Unavailable.

        :param span: the part to read, which lies within the body; a part of a
            larger body is not verified.  The size told is that of the whole.
        """

    def writer(
        id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        """Begin to store a blob.

        :param id: its id, or None to store it under its content id.
        :param size: of the body in bytes, where it is known; a body of any
            other size is then refused with Incomplete.

        Raises NoSpace or ReadOnly where it is known that it cannot be stored.
        """

    async def listing(
        after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        """List ids in the order of :func:`sos.model.ids.sort_key`.

        :param after: list from behind this id, whether it is stored or not.
        :param limit: list at most so many.
        :param partition: list this one alone, see :func:`sos.model.ids.partition`.

        Raises Unavailable; a listing that cannot be whole is never returned.
        """

    async def status() -> StoreStatus:
        """Tell how the store is doing.  Raises Unavailable."""


class IObjectStore(IBlobStore):
    """A store that puts objects together, of each of which a part can be gone.

    Then it is neither there nor missing: ``stat`` and ``read`` raise Unavailable,
    and what is uploaded again is whole again.
    """

    async def outline(id: str) -> BlobInfo:
        """Describe an object as ``stat`` does, but look for none of its parts.

        It is for who goes on to read some, which are looked for then.  Raises
        NotFound or Unavailable.
        """


class IReplicaStore(IBlobStore):
    """A store that can be one of several which are to hold the same.

    A server of the original system is asked in vain for any of this: then
    NotFound is raised, by all but ``release``.
    """

    async def digests() -> Mapping[str, PartitionDigest]:
        """Return the digest of each partition that holds anything, by its name.

        Where that can be told it is the same object until something changes,
        so that who has seen it before has nothing to do.  Raises Unavailable.
        """

    async def blob_digests(partition: str) -> dict[str, BlobDigest]:
        """Return what each blob of *partition* is, by id.  Raises Unavailable."""

    async def settle(id: str, metadata: Metadata) -> None:
        """Take *metadata* for that of a blob, when it precedes what that has.

        See :func:`sos.model.metadata.precedes`: two stores that are told of each
        other's end with the same.  It is durable on return.  Raises NotFound
        when there is no such blob, Conflict when one of them is the object and
        the other its manifest, NoSpace, ReadOnly or Unavailable.
        """

    async def lease(seconds: float, token: str | None = None) -> str:
        """Return a token that allows drops for *seconds*, at most 300.

        It is given to one at a time.  Raises Conflict while another is valid,
        NoSpace, ReadOnly or Unavailable.

        :param token: of a valid lease, which lasts so long from now on; when
            it is valid no more that is a Conflict.
        """

    async def release(token: str) -> None:
        """Give a lease back, valid or not.  Raises NoSpace, ReadOnly or Unavailable."""

    async def drop(id: str, token: str, known: BlobDigest | None = None) -> None:
        """Remove a blob, durably; one that is not there is a success.

        Raises Conflict unless *token* is that of the lease, NoSpace, ReadOnly
        or Unavailable.

        :param known: what was told of the blob; when it is not that any more,
            it stays, and Conflict is raised.  None for whatever it is.
        """


class IBatchStore(IReplicaStore):
    """A store to which each request is dear, and which takes several small blobs by one.

    What it leaves out, for whatever reason, is to be asked for by itself:
    then that is told.  Both raise Unavailable, and NotFound where the server
    knows of no batches.
    """

    async def read_batch(wanted: Sequence[str]) -> list[Blob]:
        """Return those of the blobs *wanted* that could be read, each verified.

        At most :data:`sos.batch.MOST_BLOBS` ids, of blobs that are no larger than
        :data:`sos.batch.SMALL`.
        """

    async def store_batch(blobs: Sequence[Blob]) -> frozenset[str]:
        """Store *blobs*, whose bodies are bytes; return the ids of those that are durable now."""


class IEngineStore(IReplicaStore):
    """A store that another program keeps: Redis, PostgreSQL, an object store.

    Several processes can be clients of the same one at the same time.  Each
    request connects anew when the connection was lost, and raises Unavailable
    while there is none: nothing has to be started again.  It raises Unavailable
    also before the store has been opened: nothing is taken before that.
    """

    identity: str | None = Attribute(
        "The UUID that the store keeps in itself, by which it is known wherever it is reached; "
        "None before it is open, and while one from before stores had ids cannot be given its own."
    )

    async def open(require: bool = False) -> None:
        """Connect, recognise the store that is there, and see that the engine can be trusted.

        Where there is nothing at all a new store is made, and that is logged.

        :param require: whether the store has to be there already.
        :raises StoreUnusable: when it can never be this store: a wrong password,
            another format, settings by which it loses what it acknowledges, or
            nothing where a store has to be.
        :raises Unavailable: when it cannot be reached.  Then it may be called again.
        """

    async def close() -> None:
        """Finish what was begun, and close all connections."""


class IStoreFactory(Interface):
    """What makes the stores of one kind, for ``--store SCHEME:...``.

    It is a plugin of Twisted's, found by its scheme: put an object that
    provides this into a module of the package ``twisted.plugins``.
    """

    scheme: str = Attribute("The scheme of the URLs that it understands: ``redis``.")

    def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
        """Return the store that *url* describes; nothing is connected or opened yet.

        :param algorithm: the hash of new content ids.
        :raises ValueError: telling what is wrong with the URL, and nothing of
            a password in it.  The store's name holds none either.
        """


@frozen
class Member:
    """A store as one of a group.

    :param readonly: it is read from, never written to.
    :param preferred: it is read from before its fellows.
    :param weight: how much it should keep, relative to its fellows.
    :param name: what it is known by where blobs are placed, and so everywhere: that
        of its store by default.
    """

    store: IReplicaStore
    readonly: bool = False
    preferred: bool = False
    weight: float = 1.0
    name: str = Factory(lambda self: self.store.name, takes_self=True)


#: Members that keep copies for each other, by the name of their group.
Groups = Mapping[str, tuple[Member, ...]]
