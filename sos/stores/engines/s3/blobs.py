"""Storing, changing and removing blobs in a bucket, in crash-safe steps.

After a crash between any two steps, a body is whole or missing, and every acknowledged blob is
listed. A listed blob has a body, unless the crash was during a quarantine or the body was lost:
:meth:`Blobs.forget` removes such a marker.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from hashlib import md5

from attrs import evolve, field, frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from sos.errors import Mismatch, Unavailable
from sos.interfaces import SMALL_BODY, BlobInfo, Pieces
from sos.model import ids, merge
from sos.model.digest import BlobDigest, check_held, hash_of
from sos.model.manifest import MARK
from sos.model.merge import other_body
from sos.model.metadata import Metadata, is_tombstone, version
from sos.stores.block_hashes import BLOCK, Blocks
from sos.stores.engines.s3 import records
from sos.stores.engines.s3.bucket import Bucket, Entry
from sos.stores.engines.s3.id_locks import IdLocks
from sos.stores.engines.s3.multipart import MOST_PARTS, PART_SIZE, Multipart
from sos.stores.engines.s3.partition_digests import PartitionDigests
from sos.stores.engines.s3.reading import Check, verify
from sos.stores.record import Damaged
from sos.stores.spool import Spooled
from sos.transfer import are_same

# Most larger bodies, or parts of them, in memory at once; others wait on disk.
_BODIES_IN_MEMORY = 3
#: Least age in seconds of a marker without a body before it is removed.
GONE_SECONDS = 3600.0
#: Most bytes that S3 copies in one request, as to replace the metadata of an object.
MOST_COPIED = 5 * 1024**3
# Attempts to store a blob while others store and remove it.
_TRIES = 3

_log = Logger()


@frozen
class Held:
    """A blob in the bucket."""

    info: BlobInfo
    entry: Entry = field(repr=False)

    def live(self) -> Held:
        """Return this blob; raise Deleted if it is a tombstone."""
        if is_tombstone(self.info.metadata):
            raise merge.deleted(self.info.id, self.info.metadata)
        return self

    @property
    def check(self) -> Check:
        """A new check of its body."""
        return Check(self.info, records.hash_in(self.entry.fields))

    @property
    def marker(self) -> records.Marker:
        """The marker that it should have."""
        size = self.info.size or 0
        hash = records.hash_in(self.entry.fields)
        return records.marker(self.info.id, size, self.info.metadata, hash)

    def verify_block(self, blocks: Blocks | None, start: int, block: bytes) -> None:
        """Raise Mismatch unless the *block* from byte *start* on is as it was stored.

        The only block of a body is verified by the id.

        :param blocks: None to verify no block of a larger body.
        """
        if self.entry.size <= BLOCK:
            check = self.check
            check.update(block)
            check.finish()
        elif blocks is not None:
            try:
                blocks.verify(start, block)
            except Damaged as error:
                message = f"the stored copy of {self.info.id} is damaged: {error}"
                raise Mismatch(message) from None

    def is_vouched_to_be(self, body: bytes) -> bool:
        """Return whether the ETag shows that the stored body is *body*.

        The ETag of a body that was sent by one request is its MD5, except with some kinds of
        encryption. Two bodies of the same size, hash and MD5 count as the same.
        """
        return self.entry.etag.strip('"') == md5(body, usedforsecurity=False).hexdigest()


class Blobs:
    """The blobs in *bucket*.

    :param part_size: the largest body in bytes that one request sends; larger bodies are sent
        in parts of at least that size.
    """

    def __init__(
        self, bucket: Bucket, digests: PartitionDigests, part_size: int = PART_SIZE
    ) -> None:
        self._bucket = bucket
        self._digests = digests
        self._part_size = part_size
        self._locks = IdLocks()
        self._memory = DeferredSemaphore(_BODIES_IN_MEMORY)

    async def held(self, id: str) -> Held | None:
        """Describe the blob *id*; None if it is missing."""
        entry = await self._bucket.entry(records.body_key(id))
        return None if entry is None else await self.described(id, entry)

    async def described(self, id: str, entry: Entry) -> Held:
        """Describe the blob whose body is *entry*, with the metadata of its sidecar if any."""
        sidecar = None
        if (at := records.sidecar_in(entry.fields)) is not None:
            sidecar, _ = await self._bucket.small(records.sidecar_key(id, at))
        metadata = records.metadata_in(id, entry.fields, sidecar)
        return Held(BlobInfo(id, entry.size, metadata, entry.stored_at), entry)

    async def blocks(self, held: Held) -> Blocks | None:
        """Return the blocks of the body; None if it has no valid block hashes, or is one block."""
        id, entry, sidecar = held.info.id, held.entry, None
        if entry.size <= BLOCK:
            return None
        if (sum := records.hashes_sidecar_in(entry.fields)) is not None:
            sidecar, _ = await self._bucket.small(records.hashes_key(id, sum))
        return records.blocks_in(entry.size, entry.fields, sidecar)

    async def store(self, new: Spooled, hash: str | None, hashes: bytes) -> BlobInfo:
        """Store a whole, verified body; see :meth:`~sos.interfaces.IBlobWriter.commit`.

        :param hash: the SHA-256 of the body in hex, if the id is not a hash.
        :param hashes: of its blocks; they are not needed if it is one block.
        """
        # To send a small body, on condition, costs no more than to ask whether it is there.
        at_once = self._bucket.conditional and new.size <= SMALL_BODY
        async with self._locks.of(new.id):
            for number in range(_TRIES):
                held = None if at_once and number == 0 else await self.held(new.id)
                if held is None:
                    info = await self._add(new, new.metadata, hash, hashes)
                else:
                    info = await self._join(held, new, hash, hashes)
                if info is not None:
                    return info
        raise Unavailable(f"other processes keep changing {new.id}; try again")

    async def _add(
        self, new: Spooled, metadata: Metadata, hash: str | None, hashes: bytes
    ) -> BlobInfo | None:
        """Store a new blob; return None if it exists by now."""
        if not await self._put(new, metadata, hash, hashes, only_new=True):
            return None
        if hash is not None:
            # Two concurrent uploads may both have found the name free: the server may not
            # honour conditions, and Swift evaluates them early. The last bytes have stayed.
            held = await self.held(new.id)
            if held is None or records.hash_in(held.entry.fields) != hash:
                raise other_body(new.id)
        marker = records.marker(new.id, new.size, metadata, hash)
        with self._digests.change(new.id, marker):
            await self._bucket.put(marker.key, b"")
        return BlobInfo(new.id, new.size, dict(metadata), time.time())

    async def _join(
        self, held: Held, new: Spooled, hash: str | None, hashes: bytes
    ) -> BlobInfo | None:
        """Merge *new* into the stored blob; return None if that has changed meanwhile."""
        id, stored = new.id, held.info.metadata
        damaged = False
        if is_tombstone(stored) or MARK in stored or MARK in new.metadata:
            same = False
        elif ids.algorithm(id) is None:
            same = records.hash_in(held.entry.fields) == hash
        else:
            same = True
            damaged = await self._is_damaged(held, new)
        kept, takes_new = merge.join(id, stored, new.metadata, same)
        too_large = held.entry.size > MOST_COPIED
        if takes_new or damaged or (kept != stored and same and too_large):
            await self._put(new, kept, hash, hashes, only_new=False)
            renewed = await self.held(id)
            if renewed is None:
                return None
            held = renewed
        elif kept != stored and not too_large:
            if not await self._settle(held, kept):
                return None
            held = evolve(held, info=evolve(held.info, metadata=kept))
        await self._mark(held)
        return evolve(held.info, size=new.size)

    async def _is_damaged(self, held: Held, new: Spooled) -> bool:
        """Return whether the stored body is a damaged copy of *new*.

        Reads it back unless the ETag shows that it is the same. Raises Conflict if it is another
        undamaged body with the same id.
        """
        if held.info.size == new.size:
            if new.size <= self._part_size:
                async with self._in_memory(new) as body:
                    if held.is_vouched_to_be(body):
                        return False
            if await are_same(new.body(), await self._pieces_of(held)):
                return False
        try:
            await verify(await self._pieces_of(held), held.check)
        except Mismatch:
            return True
        raise other_body(new.id)

    async def _pieces_of(self, held: Held) -> Pieces:
        opened = await self._bucket.read(records.body_key(held.info.id))
        if opened is None:
            raise Unavailable(f"{held.info.id} was removed by another process meanwhile; try again")
        return opened[1]

    async def _put(
        self, new: Spooled, metadata: Metadata, hash: str | None, hashes: bytes, only_new: bool
    ) -> bool:
        """Store a body with *metadata*; return False if *only_new* and there is one already."""
        key = records.body_key(new.id)
        fields = await self._fields(new.id, metadata, hash, hashes)
        if new.size <= self._part_size:
            async with self._in_memory(new) as body:
                return await self._bucket.put(key, body, fields, only_new)
        multipart = Multipart(self._bucket, key, fields, self._memory)
        try:
            await multipart.send_all(new.body(), self._size_of_parts(new.size))
            return await multipart.complete(only_new)
        except BaseException:
            multipart.abort()
            raise

    @asynccontextmanager
    async def _in_memory(self, new: Spooled) -> AsyncGenerator[bytes, None]:
        """Load the whole body for the time of the block; first wait for room in memory."""
        body = new.body()
        if isinstance(body, bytes):  # in memory already
            yield body
            return
        async with self._memory, aclosing(body):
            yield b"".join([piece async for piece in body])

    def _size_of_parts(self, size: int) -> int:
        return max(self._part_size, -(-size // MOST_PARTS))

    async def _fields(
        self, id: str, metadata: Metadata, hash: str | None, hashes: bytes
    ) -> Mapping[str, str]:
        """Return the fields for a body, after storing the sidecars that they name."""
        fields, sidecar = records.to_fields(metadata, hash)
        if sidecar is not None:
            await self._bucket.put(records.sidecar_key(id, version(metadata)), sidecar)
        fields |= records.hashes_to_fields(hashes, fields)
        if (sum := records.hashes_sidecar_in(fields)) is not None:
            await self._bucket.put(records.hashes_key(id, sum), hashes)
        return fields

    async def _replace_fields(self, held: Held, hashes: bytes) -> bool:
        """Store metadata and block hashes of a body anew; return False if it has changed."""
        id, key = held.info.id, records.body_key(held.info.id)
        hash = records.hash_in(held.entry.fields)
        fields = await self._fields(id, held.info.metadata, hash, hashes)
        return await self._bucket.copy(key, key, fields, held.entry.etag)

    async def _mark(self, held: Held) -> None:
        """Make the marker that describes the blob its only one."""
        info, wanted = held.info, held.marker.key
        found = await self._bucket.keys(records.markers_of(info.id))
        if found != [wanted]:
            with self._digests.change(info.id):
                if wanted not in found:
                    await self._bucket.put(wanted, b"")
                await self._bucket.delete_all([key for key in found if key != wanted])

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        """See :meth:`~sos.interfaces.IReplicaStore.reconcile`."""
        async with self._locks.of(id):
            for _ in range(_TRIES):
                held = await self.held(id)
                stored = None if held is None else held.info.metadata
                kept = merge.reconcile(id, stored, metadata)
                if held is None or (kept != stored and is_tombstone(kept)):
                    done = await self._bury(id, kept, held)
                else:
                    done = kept == stored or await self._settle(held, kept)
                if done and (held := await self.held(id)) is not None:
                    await self._mark(held)
                    return
        raise Unavailable(f"other processes keep changing {id}; try again")

    async def _bury(self, id: str, kept: Metadata, held: Held | None) -> bool:
        """Replace a blob by a tombstone; return False if it has changed meanwhile.

        No request replaces a body on condition that it is the known one.
        """
        key = records.body_key(id)
        if held is not None:
            await self._bucket.delete(key, held.entry.etag)
        hash = None if ids.algorithm(id) else hash_of(id, b"").hex()
        fields, _ = records.to_fields(kept, hash)
        if not await self._bucket.put(key, b"", fields, only_new=True):
            return False
        await self._bucket.delete_all(await self._bucket.keys(records.sidecar_key(id, "")))
        return True

    async def _settle(self, held: Held, kept: Metadata) -> bool:
        """Replace the metadata of a blob; return False if the blob has changed meanwhile."""
        blocks = await self.blocks(held)
        held = evolve(held, info=evolve(held.info, metadata=kept))
        return await self._replace_fields(held, blocks.hashes if blocks else b"")

    async def remove(self, id: str, known: BlobDigest | None) -> None:
        """Remove a blob: first its markers, so that no listed blob is without a body.

        Raises Conflict if the blob is not as *known*.
        """
        async with self._locks.of(id):
            if known is not None and (held := await self.held(id)) is not None:
                check_held(id, held.marker.digest, known)
            await self._unmark(id)
            await self._bucket.delete(records.body_key(id))
            await self._bucket.delete_all(await self._bucket.keys(records.sidecar_key(id, "")))
            await self._mark_again(id)

    async def _unmark(self, id: str) -> None:
        with self._digests.change(id):
            await self._bucket.delete_all(await self._bucket.keys(records.markers_of(id)))

    async def _mark_again(self, id: str) -> None:
        """Restore the marker if another process has stored the blob meanwhile."""
        held = await self.held(id)
        if held is not None:
            await self._mark(held)

    async def quarantine(self, held: Held) -> bool:
        """Read a damaged body again, and move it to ``quarantine/`` if it still is damaged.

        It stays if it was damaged only in transit, or if only its block hashes are wrong: those
        are corrected. Return whether it was moved.
        """
        id, key = held.info.id, records.body_key(held.info.id)
        async with self._locks.of(id):
            opened = await self._bucket.read(key)
            if opened is None:
                return False
            entry, pieces = opened
            try:
                hashes = await verify(pieces, held.check)
            except Mismatch as error:
                reason = str(error)
            else:
                await self._correct(await self.described(id, entry), hashes)
                return False
            kept = records.quarantine_key(id, time.time())
            if not await self._bucket.copy(key, kept, None, entry.etag):
                return False
            await self._bucket.delete(key, entry.etag)
            await self._unmark(id)
            await self._mark_again(id)
            _log.error("quarantined a damaged blob, key={kept}: {reason}", reason=reason, kept=kept)
            return True

    async def _correct(self, held: Held, hashes: bytes) -> None:
        """Replace the block hashes of a verified body if they are wrong."""
        blocks = await self.blocks(held)
        if blocks is None or blocks.hashes == hashes:
            return
        if await self._replace_fields(held, hashes):
            _log.warn("corrected the block hashes of a blob, id={id}", id=held.info.id)

    async def forget(self, id: str, seconds: float = GONE_SECONDS) -> bool:
        """Remove the marker of a blob whose body is gone, if the marker is *seconds* old.

        Then replication can restore the blob from other replicas. A younger marker stays: the
        blob may be being stored or dropped. Return whether a marker was removed.
        """
        gone = False
        async with self._locks.of(id):
            for key in await self._bucket.keys(records.markers_of(id)):
                marked = await self._bucket.entry(key)
                if marked is None or time.time() - (marked.stored_at or time.time()) < seconds:
                    return gone
                if await self._bucket.entry(records.body_key(id)) is not None:
                    return gone
                with self._digests.change(id):
                    await self._bucket.delete(key)
                gone = True
                _log.error(
                    "the body of a blob is missing, it is not listed any more, id={id}", id=id
                )
            await self._mark_again(id)
        return gone
