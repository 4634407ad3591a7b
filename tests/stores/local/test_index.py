"""The index by itself: records, bodies, digests."""

from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread

import lmdb
import pytest

from sos.model.digest import hash_of
from sos.stores.local.index import Index
from sos.stores.record import Record, decode
from tests.support.blobs import body_of, content_id
from tests.support.processes import ROOT

SMALL_MAP = 1 << 20


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


@pytest.mark.parametrize("move", ["grow", "reopen_to_read"])
def test_a_read_in_another_thread_ends_before_the_map_moves(index, move):
    """It would find its transaction closed, and take the index for damaged."""
    with index.begin() as transaction:
        transaction.add(record_of(1))
    began, go_on, read = Event(), Event(), []

    def places():
        with index._reading() as transaction:
            began.set()
            go_on.wait()
            read.append(len(list(transaction.cursor())))

    reader = Thread(target=index.read_in_thread, args=(places,))
    mover = Thread(target=getattr(index, move))
    reader.start()
    began.wait()
    mover.start()
    mover.join(0.1)
    go_on.set()
    reader.join()
    mover.join()
    assert read == [1]
    assert index.get(record_of(1).id) is not None


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


def elsewhere(directory, program: str) -> None:
    """Run *program* in another process, on an index of its own that is open in *directory*."""
    begin = f"""
from pathlib import Path
from sos.stores.local.index import Index
from tests.stores.local.test_index import SMALL_MAP, add, record_of
index = Index(Path({str(directory)!r}), durable=False, map_size=SMALL_MAP)
"""
    subprocess.run([sys.executable, "-c", begin + program], cwd=ROOT, check=True, timeout=60)


def add(index: Index, seeds: range) -> None:
    """Add records one by one, and let the map grow when it is full."""
    for seed in seeds:
        while True:
            try:
                with index.begin() as transaction:
                    transaction.add(record_of(seed))
                break
            except lmdb.MapFullError:
                index.grow()


def test_a_map_that_another_process_has_grown(tmp_path):
    """It is taken over by the next reading, and by the next writing."""
    for first in ("read", "write"):
        directory = tmp_path / first
        directory.mkdir()
        index = Index(directory, durable=False, map_size=SMALL_MAP)
        elsewhere(directory, "add(index, range(2000))")
        if first == "write":
            with pytest.raises(lmdb.MapResizedError), index.begin():
                pass
            index.follow()
            add(index, range(2000, 2100))
        assert sum(each.count for each in index.digests().values()) >= 2000
        assert len(index.listing(None, 10_000, None)) >= 2000
        assert index.get(record_of(1999).id) is not None
        index.close()


def test_what_a_process_that_is_gone_was_reading_is_let_go(tmp_path, index):
    """Or the pages that it saw would never be used again."""
    add(index, range(1))
    dies = "import os; reading = index._environment.begin(); os.kill(os.getpid(), 9)"
    with pytest.raises(subprocess.CalledProcessError):
        elsewhere(tmp_path, dies)
    elsewhere(tmp_path, "assert 'no active readers' in index._environment.readers()")
