"""Changes to the store, and the order in which they reach the disk.

Every decision about an id is made in the index's write transaction.  There is one
at a time, so two uploads of one id cannot both find it absent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import evolve, field, frozen

from sos.aio.shield import Underway
from sos.aio.threads import RunInThread
from sos.errors import ReadOnly, SOSError
from sos.model import ids, metadata
from sos.model.merge import other_body, renew
from sos.stores import record as records
from sos.stores.disk_errors import disk_errors
from sos.stores.local.body_file import Unreadable, open_body, reading
from sos.stores.local.body_removal import BodyRemoval
from sos.stores.local.committer import Committer
from sos.stores.local.disk import Layout
from sos.stores.local.quarantine import Quarantine
from sos.stores.local.reading import Comparison, ignore_piece, verify_body
from sos.stores.local.transaction import Transaction
from sos.stores.record import Damaged, Encoded, Record

T = TypeVar("T")

# Returned for an id whose record another change has removed in the same, uncommitted
# transaction: its file must stay as it is in case the transaction aborts.  Try again.
_LATER = Encoded(b"", None)


@frozen
class BlobWrites:
    """Adds blobs; an upload replaces a copy that is damaged or unreadable."""

    layout: Layout
    committer: Committer
    quarantine: Quarantine
    body_removal: BodyRemoval
    run_in_thread: RunInThread
    underway: Underway = field(init=False, factory=Underway)

    async def add(self, new: Record, incoming: Path | None) -> Record:
        """Store *new*, durably, and return the record that is stored.

        If the id has a record, both are merged, see :func:`sos.model.merge.join`.  *New* replaces
        a copy that is damaged or unreadable.

        :param incoming: the finished, synced file of a body that is not inline.
        :raises Conflict: if other bytes are stored under the id.
        :raises Deleted: if the object was deleted after it was stored.
        :raises ReadOnly: if only the next start can find out whether *new* is stored.
        """
        while True:
            held = await self._placed(partial(self._add, new, incoming), new.id, incoming)
            if held is None:
                return new
            if held is _LATER:
                continue
            try:
                record = records.decode(new.id, held)
                same = not record.is_tombstone and await self.run_in_thread(
                    self._is_same, record, new, incoming
                )
            except Damaged as damage:
                await self.quarantine.move(new.id, held, str(damage))
                continue
            except Unreadable:
                if ids.algorithm(new.id) is None and new.hash != record.hash:
                    raise other_body(new.id) from None
                renewed = _renewed(new, record)
                if await self._renew(held, renewed, incoming):
                    return renewed
                continue
            if not record.readable:
                await self.quarantine.mark(new.id, held, readable=True)
                continue
            kept, takes_new = records.joined(record, new, same)
            if takes_new:
                done = await self._replace(record, held, kept, incoming)
            elif kept.metadata == record.metadata:
                done = True
            else:
                done = await self.committer.submit(partial(self._settle, record, new, same))
            if done:
                return evolve(kept, size=new.size)

    def _is_same(self, held: Record, new: Record, incoming: Path | None) -> bool:
        """Verify the stored body of *held*, and return whether *new* has the same body.

        :param incoming: as for :meth:`add`.
        :raises Damaged: if the stored body does not match *held*.
        """
        with Comparison(new, incoming) as comparison:
            self.verify(held, comparison.update)
            return comparison.same

    async def _renew(self, held: Encoded, new: Record, incoming: Path | None) -> bool:
        """Replace an unreadable copy with *new*; return False if its record has changed."""
        if incoming is not None:
            return await self._placed(partial(self._succeed, held, new, incoming), new.id, incoming)
        return await self.body_removal.commit(new.id, partial(self._succeed_inline, held, new))

    def _succeed_inline(
        self, held: Encoded, new: Record, transaction: Transaction, doomed: Path
    ) -> bool:
        if transaction.get(new.id) != held:
            return False
        with disk_errors():
            if self.layout.body(new.id).exists():
                self.layout.hold(new.id, doomed)
        transaction.replace(new)
        return True

    async def _placed(self, step: Callable[[Transaction], T], id: str, incoming: Path | None) -> T:
        """Commit *step*, which may link the file *incoming* into place as the body of *id*."""
        try:
            return await self.committer.submit(step)
        except ReadOnly:
            raise
        except Exception:
            # The transaction aborted, maybe because another change in it failed.
            if incoming is not None:
                await self.committer.submit(partial(self.body_removal.withdraw, id, incoming))
            raise

    async def _replace(
        self, manifest: Record, held: Encoded, new: Record, incoming: Path | None
    ) -> bool:
        """Replace a *manifest* or tombstone with *new*; return False if the record has changed.

        Both would have the same file name.  So a manifest in a file is moved into the
        index first, and a crash at any moment leaves one of the two.
        """
        if manifest.body is None:
            try:
                body = await self.run_in_thread(_whole, self.layout.body(manifest.id), manifest)
            except (Damaged, Unreadable):
                return False
            inline = evolve(manifest, body=body)
            step = partial(self._bring_inline, inline, held)
            held = await self.body_removal.commit(manifest.id, step)
        succeed = partial(self._succeed, held, new, incoming)
        return await self._placed(succeed, new.id, incoming)

    def _bring_inline(
        self, inline: Record, held: Encoded, transaction: Transaction, doomed: Path
    ) -> Encoded:
        if transaction.get(inline.id) == held:
            with disk_errors():
                self.layout.hold(inline.id, doomed)
            transaction.replace(inline)
        return records.encode(inline)

    def _settle(self, record: Record, new: Record, same: bool, transaction: Transaction) -> bool:
        """Merge the metadata of *new*; return False if the body of *record* has changed.

        The metadata may have: so of many uploads of the same bytes none has to begin anew.
        """
        held = transaction.get(new.id)
        try:
            current = None if held is None else records.decode(new.id, held)
            if current is None or not _has_body_of(current, record):
                return False
            kept, takes_new = records.joined(current, new, same)
        except (Damaged, SOSError):
            return False  # to be seen again, outside of the transaction
        if not takes_new and kept.metadata != current.metadata:
            transaction.replace(kept)
        return not takes_new

    def _succeed(
        self, held: Encoded, new: Record, incoming: Path | None, transaction: Transaction
    ) -> bool:
        if transaction.get(new.id) != held:
            return False
        if incoming is not None:
            with disk_errors():
                self.layout.place(incoming, new.id)
        transaction.replace(new)
        return True

    def _add(self, new: Record, incoming: Path | None, transaction: Transaction) -> Encoded | None:
        if incoming is not None and transaction.get(new.id) is None:
            if new.id in transaction.removed:
                return _LATER
            with disk_errors():
                self.layout.place(incoming, new.id)
        if transaction.add(new):
            return None
        return transaction.get(new.id)

    def verify(self, record: Record, passed: Callable[[bytes], None] = ignore_piece) -> None:
        """Raise Damaged unless the stored body matches *record*.

        :param passed: called with each piece of the body.
        """
        if record.body is None:
            verify_body(self.layout.body(record.id), record, passed)
        else:
            record.verify_inline()
            passed(record.body)


def _has_body_of(current: Record, record: Record) -> bool:
    """Return whether *current* is *record*, but for its metadata."""
    unchanged = evolve(record, metadata=current.metadata)
    return current == unchanged and current.is_tombstone == record.is_tombstone


def _renewed(new: Record, held: Record) -> Record:
    """Return *new* with the merged metadata of both."""
    kept = renew(metadata.decode(held.metadata), metadata.decode(new.metadata))
    return evolve(new, metadata=metadata.encode(kept))


def _whole(path: Path, record: Record) -> bytes:
    """Read a whole body from its file; raise the errors of :func:`open_body`."""
    file, _ = open_body(path, record)
    with file, reading():
        return file.read(record.size)
