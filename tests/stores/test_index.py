"""The index by itself: records, bodies, digests."""

from __future__ import annotations

import lmdb
import pytest

from sos.digest import hash_of
from sos.stores.local.index import Index
from sos.stores.local.record import Record, decode
from tests.contract import body_of, content_id


@pytest.fixture
def index(tmp_path):
    index = Index(tmp_path, durable=False)
    yield index
    index.close()


def record_of(seed: int, inline: bool = True) -> Record:
    body = body_of(1000, seed=seed)
    id = content_id(body)
    return Record(id, 1000, hash_of(id, body), b"{}", 1.0, body if inline else None)


def test_what_is_added_is_there(index):
    """With and without an inline body."""
    records = [record_of(seed, inline=seed % 3 > 0) for seed in range(50)]
    for some in (records[:20], records[20:]):
        with index.begin() as transaction:
            assert all(transaction.add(record) for record in some)
    for record in records:
        assert decode(record.id, index.get(record.id)) == record


def test_what_is_there_is_not_added_again(index):
    """Nothing of it, nor to the digests."""
    with index.begin() as transaction:
        transaction.add(record_of(1))
    before = index.digests()
    with index.begin() as transaction:
        assert not transaction.add(record_of(1))
        assert not transaction.add(record_of(1, inline=False))
    assert index.digests() == before


def test_a_transaction_that_raises_changes_nothing(index):
    """Neither what is on the disk nor what is told of it."""

    def fail() -> None:
        with index.begin() as transaction:
            transaction.add(record_of(1))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert index.get(record_of(1).id) is None
    assert index.digests() == {}


def test_what_is_removed_leaves_nothing(tmp_path):
    """No body takes room that nobody can ask for."""
    index = Index(tmp_path, durable=False)
    records = [record_of(1), record_of(2, inline=False)]
    with index.begin() as transaction:
        for record in records:
            transaction.add(record)
    with index.begin() as transaction:
        for record in records:
            transaction.remove(record.id)
    assert index.listing(None, 10, None) == []
    assert index.digests() == {}
    index.close()
    with lmdb.open(str(tmp_path), max_dbs=3) as environment, environment.begin() as reading:
        for name in (b"records", b"bodies"):
            assert reading.stat(environment.open_db(name, reading))["entries"] == 0
