"""The store that a PostgreSQL keeps, when all is well."""

from __future__ import annotations

from tests.contract import ManifestContract, ReplicaContract, StoreContract


class TestPostgresStore(StoreContract, ReplicaContract, ManifestContract):
    """The whole contract, on a real server."""
