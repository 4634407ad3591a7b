"""The rows of indexes that are damaged."""

from __future__ import annotations

import os

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.stores.rows import Extent, Fault, Row, extent, number_of, place_of, walk
from tests.stores.local.directories import PAGE, overwrite

KEYS = [b"%03x%037x" % (number, number) for number in range(0, 4096, 3)]


@pytest.fixture
def index(tmp_path):
    """An index with a row in each third partition."""
    with lmdb.open(str(tmp_path), max_dbs=5, map_size=1 << 30) as environment:
        records, bodies = environment.open_db(b"records"), environment.open_db(b"bodies")
        with environment.begin(records, write=True) as transaction:
            for number, key in enumerate(KEYS, 1):
                transaction.put(key, number.to_bytes(8) + b"head")
                transaction.put(number.to_bytes(8), key * 200, db=bodies)
    return tmp_path


def rows_of(found):
    return [row for row in found if isinstance(row, Row)]


def faults_of(found):
    return [row for row in found if isinstance(row, Fault)]


def test_all_rows_come(index):
    """In order, with the bodies that belong to them; and the file is as long as it says."""
    found = list(walk(index, "records", bodies=True))
    assert [(row.key, row.body) for row in found] == [(key, key * 200) for key in KEYS]
    assert len(list(walk(index, "bodies", values=False))) == len(KEYS)
    assert extent(index) == Extent(3, (index / "data.mdb").stat().st_size)


def test_what_cannot_be_opened_is_a_fault(tmp_path, index):
    """Whatever is there, or nothing."""
    (tmp_path / "none").mkdir()
    assert isinstance(extent(tmp_path / "none"), Fault)
    assert len(faults_of(walk(index, "digests"))) == 1
    for size in (0, 1, 100, PAGE, PAGE + 100):
        os.truncate(index / "data.mdb", size)
        assert isinstance(extent(index), Fault) or faults_of(walk(index, "records"))


def leaf_of(data, key):
    """Return the number of the page that has the row of *key* among the records."""
    content = data.read_bytes()
    found = [at // PAGE for at in range(0, len(content), PAGE) if key in content[at : at + PAGE]]
    return next(page for page in found if (key + b"\0\0") in content[page * PAGE :][:PAGE])


@pytest.mark.parametrize("junk", [bytes(PAGE), b"\xff" * PAGE])
def test_what_is_before_and_behind_a_damaged_page_comes(index, junk):
    """One leaf of the tree costs the rows in it, and no others: if need be by many processes."""
    data = index / "data.mdb"
    page = leaf_of(data, KEYS[700])
    on_page = {key for key in KEYS if key + b"\0\0" in data.read_bytes()[page * PAGE :][:PAGE]}
    assert 1 < len(on_page) < 100
    overwrite(data, page * PAGE, junk)
    found = list(walk(index, "records"))
    assert len(faults_of(found)) == 1
    assert [row.key for row in rows_of(found)] == [key for key in KEYS if key not in on_page]


@pytest.mark.parametrize("pages", [10, 200])
def test_a_missing_end_is_told_and_there_is_an_end_to_it(index, pages):
    """A process that reads there is killed, and it is another one."""
    data = index / "data.mdb"
    os.truncate(data, data.stat().st_size - pages * PAGE)
    found = list(walk(index, "records", bodies=True))
    assert faults_of(found) or any(row.body is None for row in rows_of(found))


@given(st.binary(max_size=50), st.booleans())
def test_the_next_place_is_behind(start, of_ids):
    """Whatever the damage has made of a key."""
    place = place_of(number_of(start, of_ids) + 1, of_ids)
    assert place is None or place > start


@given(st.lists(st.binary(max_size=12), min_size=2), st.booleans())
def test_places_are_in_the_order_of_keys(keys, of_ids):
    numbers = [number_of(key, of_ids) for key in sorted(keys)]
    assert numbers == sorted(numbers)
