"""The digests of the partitions, updated in the transactions that change blobs.

Each partition has several rows, and each process updates one of them, so that processes seldom
wait for each other. A query adds up the rows. A transaction updates these rows last, in the order
of partitions, which prevents deadlocks.
"""

from __future__ import annotations

import random
from functools import partial

from attrs import field, frozen

from sos.errors import InvalidId, Unavailable
from sos.model import ids
from sos.model.digest import PartitionDigest, record_sum
from sos.stores.engines.postgres.schema import Tables
from sos.stores.engines.postgres.session import Session, one

# Most rows of a partition.
_WRITERS = 8

#: Adds the rows of a table ``change`` to the digests, in the rows of one *writer*.
ADD = """
INSERT INTO {digests} AS held (partition, writer, count, bytes, sum)
SELECT partition, %(writer)s, count, bytes, sum FROM change ORDER BY partition
ON CONFLICT (partition, writer) DO UPDATE SET
    count = held.count + excluded.count,
    bytes = held.bytes + excluded.bytes,
    sum = mod(held.sum + excluded.sum, 340282366920938463463374607431768211456)
"""
_ADD_ONE = (
    "WITH change (partition, count, bytes, sum) AS"
    " (VALUES (%(partition)s, %(count)s::bigint, %(bytes)s::bigint, %(sum)s::numeric))" + ADD
)
_SUMS = """
SELECT partition, sum(count)::bigint, sum(bytes)::bigint,
    mod(sum(sum), 340282366920938463463374607431768211456)::text
FROM {digests} GROUP BY partition HAVING sum(count) > 0
"""


@frozen
class Digests:
    """The digests of a store.

    :ivar writer: the number of the row of each partition that this process updates.
    """

    tables: Tables
    writer: int = field(init=False, factory=partial(random.randrange, _WRITERS))

    def all(self, session: Session) -> dict[str, PartitionDigest]:
        """Return the digest of each partition that holds anything."""
        rows = session.rows(self.tables.sql(_SUMS), None, str, int, int, str)
        try:
            return {
                ids.check_partition(partition): PartitionDigest(count, bytes, int(sum))
                for partition, count, bytes, sum in rows
            }
        except (ValueError, InvalidId) as error:
            raise Unavailable("the table of digests is damaged") from error

    def total(self, session: Session) -> tuple[int, int]:
        """Return the number of blobs, and the bytes of their bodies."""
        asked = self.tables.sql(
            "SELECT coalesce(sum(count), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM {digests}"
        )
        count, bytes = one(session.rows(asked, None, int, int))
        return count, bytes

    def change(self, session: Session, id: str, by: PartitionDigest) -> None:
        """Add *by* to the digest of the partition of *id*."""
        values = {
            "writer": self.writer,
            "partition": ids.partition(id),
            "count": by.count,
            "bytes": by.bytes,
            "sum": str(by.sum),
        }
        session.execute(self.tables.sql(_ADD_ONE), values)

    def lock(self, session: Session) -> None:
        """Lock the table of digests until the end of the transaction.

        Do this first in a transaction: adding a blob locks this table first, too, and another
        order could deadlock with it.
        """
        session.execute(self.tables.sql("LOCK TABLE {digests} IN EXCLUSIVE MODE"))

    def recount(self, session: Session, id: str) -> None:
        """Compute the digest of the partition of *id* from its blobs; needs :meth:`lock`."""
        partition = ids.partition(id)
        found = PartitionDigest()
        asked = "SELECT key, size, metadata, hash FROM {blobs} WHERE key >= %s AND key < %s"
        for key, size, metadata, hash in session.rows(
            self.tables.sql(asked), (partition, partition + "~"), str, int, str, bytes
        ):
            found = found.with_blob(size, record_sum(key[3:], metadata.encode(), hash))
        gone = self.tables.sql("DELETE FROM {digests} WHERE partition = %s")
        session.execute(gone, (partition,))
        self.change(session, id, found)
