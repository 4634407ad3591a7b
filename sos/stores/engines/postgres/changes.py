"""Changes of stored blobs: reconcile metadata, drop, quarantine; and the lease for drops."""

from __future__ import annotations

from attrs import frozen

from sos.errors import NotFound
from sos.model import lease as leases
from sos.model import merge
from sos.model.digest import BlobDigest, PartitionDigest, blob_digest, check_held
from sos.model.lease import Lease
from sos.model.metadata import Metadata, is_tombstone
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.record import Record, tombstone
from sos.stores.engines.postgres.session import Session, one, transaction

_LEASE = """
SELECT lease, extract(epoch FROM lease_until)::float8, extract(epoch FROM clock_timestamp())::float8
FROM {state} FOR
"""
_HOLD = "UPDATE {state} SET lease = %s, lease_until = to_timestamp(%s)"
_RECONCILE = "UPDATE {blobs} SET metadata = %s, checksum = %s WHERE key = %s"
_DROP = "DELETE FROM {blobs} WHERE key = %s"
_QUARANTINE = """
WITH gone AS (
    DELETE FROM {blobs} WHERE key = %(key)s AND xmin::text = %(row)s RETURNING *
)
INSERT INTO {damaged} (key, size, hash, metadata, stored_at, checksum, body, pieces, reason)
SELECT key, size, hash, metadata, stored_at, checksum, body, pieces, %(reason)s FROM gone
"""


@frozen
class Changes:
    """Changes of the *blobs* of a store, each in one transaction."""

    blobs: Blobs

    def reconcile(self, session: Session, id: str, metadata: Metadata) -> None:
        """See :class:`sos.interfaces.IReplicaStore`; raises Damaged when the record is."""
        with transaction(session):
            try:
                held = self.blobs.lock(session, id)
            except NotFound:
                kept = merge.reconcile(id, None, metadata)
                if self.blobs.add(session, [tombstone(id, kept)]):
                    return
                held = self.blobs.lock(session, id)  # another process has stored it meanwhile
            stored = held.info().metadata
            kept = merge.reconcile(id, stored, metadata)
            if kept != stored and is_tombstone(kept):
                self.blobs.replace_within(session, held, tombstone(id, kept))
            elif kept != stored:
                self._settle(session, held, held.with_metadata(kept))

    def settle(self, session: Session, held: Record, new: Record) -> Record | None:
        """Replace the metadata of *held* by that of *new*; return None if *held* has changed."""
        with transaction(session):
            try:
                unchanged = self.blobs.lock(session, held.id).row == held.row
            except NotFound:
                return None
            if unchanged:
                self._settle(session, held, new)
            return new if unchanged else None

    def _settle(self, session: Session, held: Record, new: Record) -> None:
        statement = self.blobs.tables.sql(_RECONCILE)
        session.execute(statement, (new.metadata, new.checksum, new.key))
        change = PartitionDigest().with_blob(0, new.sum).without_blob(0, held.sum)
        self.blobs.digests.change(session, new.id, change)

    def drop(self, session: Session, id: str, token: str, known: BlobDigest | None) -> None:
        """See :class:`sos.interfaces.IReplicaStore`; raises Damaged when the record is."""
        with transaction(session):
            held, now = self._lease(session, "SHARE")
            leases.check(held, token, now)
            try:
                record = self.blobs.lock(session, id)
            except NotFound:
                return
            info = record.info()
            check_held(id, blob_digest(id, record.size, info.metadata, record.hash), known)
            self._remove(session, record)

    def _remove(self, session: Session, record: Record) -> None:
        session.execute(self.blobs.tables.sql(_DROP), (record.key,))
        if record.pieces is not None:
            self.blobs.let_go(session, record.pieces)
        change = PartitionDigest().without_blob(record.size, record.sum)
        self.blobs.digests.change(session, record.id, change)

    def quarantine(self, session: Session, record: Record, reason: str) -> None:
        """Move a damaged blob to the table of damaged ones, unless it has changed meanwhile."""
        values = {"key": record.key, "row": record.row, "reason": reason}
        with transaction(session):
            # The damaged row does not say what to subtract from the digest: recount.
            self.blobs.digests.lock(session)
            if session.execute(self.blobs.tables.sql(_QUARANTINE), values).rowcount:
                self.blobs.digests.recount(session, record.id)

    def lease(self, session: Session, seconds: float, token: str | None) -> str:
        """See :class:`sos.interfaces.IReplicaStore`."""
        with transaction(session):
            held, now = self._lease(session, "UPDATE")
            lease = leases.grant(held, seconds, now, token)
            session.execute(self.blobs.tables.sql(_HOLD), (lease.token, lease.until))
        return lease.token

    def release(self, session: Session, token: str) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        given_back = "UPDATE {state} SET lease = NULL, lease_until = NULL WHERE lease = %s"
        session.execute(self.blobs.tables.sql(given_back), (token,))

    def _lease(self, session: Session, lock: str) -> tuple[Lease | None, float]:
        """Return the current lease, or None, and the time by the server's clock."""
        asked = self.blobs.tables.sql(_LEASE + lock)
        token, until, now = one(session.rows(asked, None, str | None, float | None, float))
        return None if token is None or until is None else Lease(token, until), now
