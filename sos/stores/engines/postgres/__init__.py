"""Blobs in PostgreSQL: ``--store postgresql://...``."""

from __future__ import annotations

from typing import Any

from sos.interfaces import IEngineStore


def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
    """Return the store that *url* describes; see :class:`sos.interfaces.IStoreFactory`."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"a postgresql: store needs a library ({error}): pip install 'sos-storage[postgresql]'"
        ) from None
    from sos.stores.engines.postgres.address import address
    from sos.stores.engines.postgres.store import PostgresStore

    return PostgresStore(address(url), reactor, algorithm)
