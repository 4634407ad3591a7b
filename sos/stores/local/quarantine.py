"""Quarantine of damaged blobs, and marks on unreadable ones.

The store does not have a quarantined blob: replication brings another copy, and an upload of the
same bytes is stored.  A blob that the disk cannot read may be readable later, so it stays, with a
mark that keeps it out of listings and digests.
"""

from __future__ import annotations

from functools import partial

from attrs import evolve, frozen
from twisted.logger import Logger

from sos.errors import SOSError, Unavailable
from sos.stores import record as records
from sos.stores.disk_errors import disk_errors
from sos.stores.local.body_file import Unreadable
from sos.stores.local.committer import Committer
from sos.stores.local.disk import Layout
from sos.stores.local.index import Index
from sos.stores.local.transaction import Transaction
from sos.stores.record import Damaged, Encoded

_log = Logger()


@frozen
class Quarantine:
    """Takes damaged and unreadable blobs out of a store.

    :param store: the name of the store, for logs.
    """

    store: str
    layout: Layout
    committer: Committer
    index: Index

    async def take_out(self, id: str, judged: Encoded, error: Damaged | Unreadable) -> bool:
        """Quarantine a damaged blob, or mark an unreadable one, and log it.

        :param judged: the encoded record of the blob; if another record or none is stored by
            now, do nothing and return False.
        :raises Unavailable: if that cannot be done.  Listings and digests then fail: they would
            include the blob.
        """
        damaged = isinstance(error, Damaged)
        if not damaged and records.is_marked(judged.head):
            return self.index.get(id) == judged
        try:
            if damaged:
                done = await self.move(id, judged, str(error))
            else:
                done = await self.mark(id, judged, readable=False)
        except SOSError as refusal:
            what = "quarantine a damaged" if damaged else "mark an unreadable"
            text = (
                f"cannot {what} blob, store={{store}}, id={{id}}: {{refusal}} (damage: {{error}})"
            )
            _log.error(text, store=self.store, id=id, error=error, refusal=refusal)
            self.index.mark_suspect(id, judged)
            what = "damaged and cannot be quarantined" if damaged else "unreadable"
            raise Unavailable(f"blob {id} is {what}: {error}; {refusal}") from error
        self.index.clear_suspect(id)
        if done:
            what = "quarantined a damaged" if damaged else "marked an unreadable"
            text = f"{what} blob, store={{store}}, id={{id}}: {{error}}"
            _log.error(text, store=self.store, id=id, error=error)
        return done

    async def move(self, id: str, judged: Encoded, reason: str) -> bool:
        """Move a damaged blob to ``quarantine/``; the store does not have it from then on.

        :param judged: as for :meth:`take_out`.
        """
        return await self.committer.submit(partial(self._move, id, judged, reason))

    def _move(self, id: str, judged: Encoded, reason: str, transaction: Transaction) -> bool:
        if transaction.get(id) != judged:
            return False
        with disk_errors():
            # Steps that need space come first: if one fails, the blob is still in place.
            kept = self.layout.note_quarantine(id, reason)
            if not records.has_file(id, judged) or not self.layout.body(id).exists():
                self.layout.write_file(kept, judged.head + (judged.body or b""))
            else:
                self.layout.body(id).rename(kept)
            self.layout.sync_directory(self.layout.quarantine)
        transaction.remove(id)
        transaction.mark_lost(id)
        return True

    async def mark(self, id: str, judged: Encoded, readable: bool) -> bool:
        """Mark a blob as unreadable, or as readable again.

        Listings and digests omit an unreadable blob until it can be read or is stored again.

        :param judged: as for :meth:`take_out`.
        """
        return await self.committer.submit(partial(_mark, id, judged, readable))


def _mark(id: str, judged: Encoded, readable: bool, transaction: Transaction) -> bool:
    if transaction.get(id) != judged:
        return False
    record = records.decode(id, judged)
    if record.readable != readable:
        transaction.replace(evolve(record, readable=readable))
    return True
