"""A write and read test before a store is opened.

It finds wrong encodings of the database and missing permissions, which the mere existence of the
tables does not show.
"""

from __future__ import annotations

import secrets

from psycopg import DataError, ProgrammingError, errors

from sos.errors import StoreUnusable
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.model.digest import hash_of
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies, new_body
from sos.stores.engines.postgres.record import Record, checksum
from sos.stores.engines.postgres.session import Session, transaction

_BODY = bytes(range(256))
_METADATA = metadata_format.encode({"X-Probe": "\u20ac\udcff"}).decode()


class _Tried(Exception):
    """The test has passed; roll it back."""


def probe(session: Session, blobs: Blobs, bodies: Bodies) -> None:
    """Store a blob and a piece of a body, read them, and roll back.

    If the server is read-only or full, the test ends at the refused write, without an error.

    :raises StoreUnusable: if that fails, or what was read is not what was written.
    """
    try:
        blobs.digests.total(session)
        with transaction(session):
            _try(session, blobs, bodies)
            raise _Tried
    except (_Tried, errors.ReadOnlySqlTransaction, errors.DiskFull):
        return
    except (ProgrammingError, DataError) as error:  # permissions, tables, encodings
        reason = error.diag.message_primary or type(error).__name__
        raise StoreUnusable(f"cannot write and read a test blob: {reason}") from error


def _try(session: Session, blobs: Blobs, bodies: Bodies) -> None:
    id = f"probe{secrets.token_hex(16)}"
    code = checksum(id, len(_BODY), hash_of(id, _BODY), _METADATA)
    new = Record(id, len(_BODY), hash_of(id, _BODY), _METADATA, _BODY, None, code)
    body = new_body()
    blobs.add(session, [new])
    bodies.add(session, body, 0, _BODY)
    found = blobs.get(session, id)
    same = all(
        getattr(found, name) == getattr(new, name)
        for name in ("size", "hash", "metadata", "body", "checksum")
    )
    listed = blobs.page(session, None, 1, ids.partition(id))
    piece = bodies.piece(session, body, 0, len(_BODY))
    if not (same and piece == _BODY and len(listed) == 1 and listed[0] <= id):
        raise StoreUnusable("the test blob was read back different; check the database's encoding")
