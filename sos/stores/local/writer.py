"""The write path of a blob.

In order: stream the body into ``incoming/`` and hash it; check length and hash;
write the trailer; fsync the file; then, in the index's transaction, link the file
into ``bodies/``, fsync that directory, and put the record; after the commit, remove
the name in ``incoming/``.  A small body stays in memory until it goes into the
transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import IO

from zope.interface import implementer

from sos.aio.threads import ThreadJobs
from sos.errors import NoSpace, ReadOnly
from sos.interfaces import SMALL_BODY, BlobInfo, IBlobWriter
from sos.model import metadata as metadata_format
from sos.model.digest import BodyDigest
from sos.model.metadata import Metadata
from sos.stores.block_hashes import BlockHashes
from sos.stores.disk_errors import SyncFailed, disk_errors
from sos.stores.local.blob_writes import BlobWrites
from sos.stores.local.body_file import write_trailer
from sos.stores.local.recovery import incoming_name
from sos.stores.local.space import Space
from sos.stores.received import ReceivedBody
from sos.stores.record import Record


@implementer(IBlobWriter)
class LocalWriter:
    """A writer for one blob; see :class:`sos.interfaces.IBlobWriter`.

    The constructor raises NoSpace if there is no room for *size* bytes; if the size is
    None, :meth:`write` may raise it.
    """

    def __init__(
        self,
        blob_writes: BlobWrites,
        space: Space,
        id: str | None,
        metadata: Metadata,
        size: int | None,
        digest: BodyDigest,
        now: Callable[[], float],
    ) -> None:
        self._taken = space.take_blob(size)
        self._blob_writes = blob_writes
        self._space = space
        # Bytes counted in *space* that have not arrived yet; None if *size* is counted whole.
        self._counted = SMALL_BODY if size is None else None
        self._metadata = metadata
        self._now = now
        self._jobs = ThreadJobs(blob_writes.run_in_thread)
        create = partial(_create, blob_writes.layout.incoming, id)
        self._blocks = BlockHashes()
        self._received = ReceivedBody(digest, create, self._jobs, self._blocks.update)
        self._committing = self._ended = False

    async def write(self, piece: bytes) -> None:
        if self._counted is not None:
            self._counted -= len(piece)
            if self._counted < 0:
                self._space.take(-self._counted)
                self._taken -= self._counted
                self._counted = 0
        await self._received.write(piece)

    async def commit(self) -> BlobInfo:
        self._committing = True
        if self._received.file is not None:
            # Shielded from cancellation, which could leave the file without a record.
            return await self._blob_writes.underway.to_its_end(self._commit_file())
        try:
            record = self._record(await self._received.whole())
        except BaseException:
            self._end()
            raise
        self._ended = True
        return await add_inline(self._blob_writes, self._space, record, self._taken)

    async def _commit_file(self) -> BlobInfo:
        try:
            return await self._store_file()
        finally:
            self._end()

    async def _store_file(self) -> BlobInfo:
        try:
            await self._received.whole()
            record = self._record(None)
            await self._jobs.run(self._finish, record)
            stored = await self._blob_writes.add(record, self._incoming())
        except SyncFailed as error:
            self._discard()
            raise self._blob_writes.committer.fail(error) from error
        except ReadOnly:
            # Keep the file: the next start checks whether the index has its record.
            self._received.discard()
            raise
        except BaseException:
            self._discard()
            raise
        self._discard()
        return stored.info()

    def _finish(self, record: Record) -> None:
        assert self._received.file is not None
        with disk_errors():
            write_trailer(self._received.file, record, self._blocks.value())
        self._blob_writes.layout.sync_file(self._received.file.fileno())

    def _record(self, body: bytes | None) -> Record:
        return record_of(self._received.digest, self._metadata, self._now(), body)

    def abort(self) -> None:
        if not self._committing:
            self._discard()
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._space.end(self._taken)

    def _incoming(self) -> Path:
        assert self._received.file is not None
        return Path(self._received.file.name)

    def _discard(self) -> None:
        self._received.discard(self._remove)

    def _remove(self) -> None:
        self._incoming().unlink(missing_ok=True)


def _create(incoming: Path, id: str | None) -> IO[bytes]:
    return open(incoming / incoming_name(id, secrets.token_hex(8)), "xb", buffering=0)


def record_of(digest: BodyDigest, metadata: Metadata, now: float, body: bytes | None) -> Record:
    """Return the record of a new blob, whose whole body has passed through *digest*.

    :param now: in seconds since the epoch.
    :param body: the inline body, or None if it is in a file.
    :raises Incomplete, Mismatch: if it is not the body that was announced.
    """
    return Record(
        id=digest.verified_id(),
        size=digest.size,
        hash=digest.value(),
        metadata=metadata_format.encode(metadata),
        stored_at=now,
        body=body,
    )


async def add_inline(blob_writes: BlobWrites, space: Space, record: Record, taken: int) -> BlobInfo:
    """Store a blob with an inline body, and describe it as it is stored.

    :param taken: the bytes counted for it, see :meth:`Space.end`.
    """
    adding = _add_inline(blob_writes, space, record)
    if not space.has_quota:
        return await adding
    # A blob whose upload is cancelled may be stored all the same: count it until it is decided.
    return await blob_writes.underway.to_its_end(_counted(adding, space, taken))


async def _counted(adding: Awaitable[BlobInfo], space: Space, taken: int) -> BlobInfo:
    try:
        return await adding
    finally:
        space.end(taken)


async def _add_inline(blob_writes: BlobWrites, space: Space, record: Record) -> BlobInfo:
    try:
        return (await blob_writes.add(record, None)).info()
    except NoSpace:
        space.correct()
        raise
