"""Digests of partitions, as each of two processes sees them."""

from __future__ import annotations

import lmdb
import pytest

from sos.errors import Unavailable
from sos.model.digest import PartitionDigest
from sos.stores.local.partition_digests import DigestLog


@pytest.fixture
def environment(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=1, sync=False) as opened:
        yield opened


@pytest.fixture
def database(environment):
    return environment.open_db(b"digests")


def change(environment, log: DigestLog, changed: dict[bytes, PartitionDigest]) -> None:
    with environment.begin(write=True) as transaction:
        log.read(transaction)
        number = log.append(transaction, changed)
    log.committed(number, changed)


def read(environment, log: DigestLog) -> dict[bytes, PartitionDigest]:
    with environment.begin() as transaction:
        return dict(log.read(transaction))


def test_what_one_has_logged_another_reads(environment, database):
    """Through many a fold, by one that follows and by one that comes late."""
    writers, follower = [DigestLog(database), DigestLog(database)], DigestLog(database)
    expected = {}
    for number in range(1000):
        changed = {b"%03x" % (number % 300): PartitionDigest(number, 2 * number, 1 << 100)}
        change(environment, writers[number % 2], changed)
        expected.update(changed)
        if number % 7 == 0:
            assert read(environment, follower) == expected
    for log in (*writers, follower, DigestLog(database)):
        assert read(environment, log) == expected


def test_the_log_stays_short(environment, database):
    """It is read whole whenever a store is opened."""
    log = DigestLog(database)
    for number in range(600):
        change(environment, log, {b"%03x" % number: PartitionDigest(1, 1, 1)})
    with environment.begin() as transaction:
        assert transaction.stat(database)["entries"] < 300


def test_what_was_not_committed_is_forgotten(environment, database):
    """The next transaction takes the same number."""
    log = DigestLog(database)
    transaction = environment.begin(write=True)
    log.append(transaction, {b"000": PartitionDigest(1, 1, 1)})
    transaction.abort()
    assert read(environment, log) == {}
    change(environment, log, {b"001": PartitionDigest(2, 2, 2)})
    assert read(environment, DigestLog(database)) == {b"001": PartitionDigest(2, 2, 2)}


def test_a_damaged_row_is_refused(environment, database):
    """It is no reason to believe that a partition is empty."""
    with environment.begin(write=True) as transaction:
        transaction.put(bytes(7) + b"\x01", b"half a row", db=database)
    with pytest.raises(Unavailable, match="damaged"):
        read(environment, DigestLog(database))


def test_what_is_newer_is_not_undone(environment, database):
    """Between a commit and the word of it another process may have gone on."""
    first, second = DigestLog(database), DigestLog(database)
    changed = {b"000": PartitionDigest(1, 1, 1)}
    with environment.begin(write=True) as transaction:
        number = first.append(transaction, changed)
    change(environment, second, {b"000": PartitionDigest(2, 2, 2)})
    assert read(environment, first) == {b"000": PartitionDigest(2, 2, 2)}
    first.committed(number, changed)
    assert read(environment, first) == {b"000": PartitionDigest(2, 2, 2)}


def test_the_digests_are_another_object_once_they_have_changed(environment, database):
    """Then alone; a partition that holds nothing is not among them."""
    log, other = DigestLog(database), DigestLog(database)

    def named():
        with environment.begin() as transaction:
            return log.named(transaction)

    assert named() is named()
    change(environment, other, {b"000": PartitionDigest(1, 1, 1), b"001": PartitionDigest()})
    first = named()
    assert first == {"000": PartitionDigest(1, 1, 1)}
    assert named() is first
    change(environment, log, {b"002": PartitionDigest(2, 2, 2)})
    assert len(named()) == 2
    assert len(first) == 1
