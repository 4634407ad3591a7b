"""The store that a PostgreSQL keeps, when all is well."""

from __future__ import annotations

from itertools import count, islice

from pytest_twisted import ensureDeferred

from sos.model.ids import partition
from tests.contract import ManifestContract, ReplicaContract, StoreContract
from tests.stores.engines.postgres.stores import check_digests
from tests.support.blobs import put


class TestPostgresStore(StoreContract, ReplicaContract, ManifestContract):
    """The whole contract, on a real server."""

    @ensureDeferred
    async def test_a_partition_may_hold_any_number(self, store):
        """The sum of their sums begins anew at 2**128, each time."""
        names = (name for n in count() if partition(name := f"n{n}") == "abc")
        for name in islice(names, 12):
            await put(store, b"", name)
        await check_digests(store)
        assert (await store.digests())["abc"].count == 12
