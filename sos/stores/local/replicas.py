"""Operations on a store as one replica: reconcile metadata, and drop copies under a lease."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from sos.errors import Conflict, SOSError
from sos.model import lease as leases
from sos.model import merge
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, check_held
from sos.model.lease import Lease
from sos.model.metadata import DELETED_AT, Metadata, is_tombstone
from sos.stores import record as records
from sos.stores.disk_errors import disk_errors
from sos.stores.local.body_removal import BodyRemoval
from sos.stores.local.committer import Committer
from sos.stores.local.disk import Layout
from sos.stores.local.transaction import Transaction


@frozen
class Replicas:
    """Reconciles metadata, grants the lease, and drops copies for its holder.

    The lease is in the index, and outlives a restart.  The transaction that drops a
    copy also checks the lease.
    """

    layout: Layout
    committer: Committer
    body_removal: BodyRemoval

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        """See :class:`sos.interfaces.IReplicaStore`; raise Damaged if the record is."""
        if DELETED_AT in metadata:  # the body may have to be removed
            refusal = await self.body_removal.commit(id, partial(self._reconcile, id, metadata))
        else:
            refusal = await self.committer.submit(
                partial(self._reconcile, id, metadata, doomed=None)
            )
        if refusal is not None:
            raise refusal

    def _reconcile(
        self, id: str, received: Metadata, transaction: Transaction, doomed: Path | None
    ) -> SOSError | records.Damaged | None:
        """Return the error, if any: raised, it would abort the other changes in the transaction."""
        encoded = transaction.get(id)
        try:
            record = None if encoded is None else records.decode(id, encoded)
            stored = None if record is None else record.info().metadata
            kept = merge.reconcile(id, stored, received)
        except (records.Damaged, SOSError) as error:
            return error
        if kept == stored:
            return None
        if record is None:
            transaction.add(records.tombstone(id, kept, time.time()))
        elif is_tombstone(kept):
            with disk_errors():
                if doomed is not None and record.body is None and self.layout.body(id).exists():
                    self.layout.hold(id, doomed)
            transaction.replace(records.tombstone(id, kept, record.stored_at))
        else:
            transaction.replace(evolve(record, metadata=metadata_format.encode(kept)))
        return None

    async def lease(self, seconds: float, token: str | None) -> str:
        """See :class:`sos.interfaces.IReplicaStore`."""
        return await self.committer.submit(partial(_grant, seconds, token))

    async def release(self, token: str) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        await self.committer.submit(partial(_release, token))

    async def drop(self, id: str, token: str, known: BlobDigest | None) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        await self.body_removal.commit(id, partial(self._drop, id, token, known))

    def _drop(
        self,
        id: str,
        token: str,
        known: BlobDigest | None,
        transaction: Transaction,
        doomed: Path,
    ) -> None:
        leases.check(_held(transaction), token, _now())
        encoded = transaction.get(id)
        if encoded is None:
            transaction.clear_lost(id)
            return
        if known is not None:
            check_held(id, _blob_digest(id, encoded), known)
        with disk_errors():
            if records.has_file(id, encoded) and self.layout.body(id).exists():
                self.layout.hold(id, doomed)
        transaction.remove(id)
        transaction.clear_lost(id)


def _blob_digest(id: str, encoded: records.Encoded) -> BlobDigest:
    try:
        digest = records.blob_digest(id, encoded.head)
    except records.Damaged as damage:
        raise Conflict(f"the stored copy of {id} is damaged: {damage}") from damage
    if digest is None:
        raise Conflict(f"the stored copy of {id} cannot be read")
    return digest


def _grant(seconds: float, token: str | None, transaction: Transaction) -> str:
    lease = leases.grant(_held(transaction), seconds, _now(), token)
    _hold(transaction, lease)
    return lease.token


def _release(token: str, transaction: Transaction) -> None:
    held = _held(transaction)
    if held is not None and held.token == token:
        _hold(transaction, evolve(held, until=0.0))


def _held(transaction: Transaction) -> Lease | None:
    token, _, until = (transaction.lease or b"").decode("ascii", "replace").partition(" ")
    try:
        return Lease(token, float(until))
    except ValueError:
        return None


def _hold(transaction: Transaction, lease: Lease) -> None:
    transaction.lease = f"{lease.token} {lease.until!r}".encode("ascii")


def _now() -> float:
    # Seconds since boot: nobody can set this clock, and a restarted daemon continues with it.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
