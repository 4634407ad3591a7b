"""Objects that are in several groups: what was said of them first is to be had in all."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.interfaces import Member
from sos.model.manifest import MARK
from sos.model.metadata import PART_AT, SET_AT, STORED_AT
from sos.replication.pass_state import PassState
from sos.stores.memory import MemoryStore
from tests.replication.groups import RecordedReport, group, run, stores
from tests.support.blobs import body_of, manifest_of, put
from tests.support.doubles import FailingStore

FIRST = {"X-Mime-Type": "image/png", SET_AT: "1000"}
LATER = {"X-Name": "later", SET_AT: "2000"}


def metadata_on(store, id):
    found = store.blobs[id].info.metadata
    return {name: value for name, value in found.items() if name not in (STORED_AT, PART_AT)}


@pytest.mark.parametrize("later", [LATER, {}])
@ensureDeferred
async def test_the_first_metadata_is_told_to_other_groups(later):
    """Whichever group has it; then nothing is left to be done."""
    for order in (1, -1):
        a, b, c, d = stores("a", "b", "c", "d")
        groups = dict(list({"one": group(a, b), "two": group(c, d)}.items())[::order])
        for number in range(20):
            for store in (a, b):
                await put(store, b"%d" % number, metadata=FIRST)
            for store in (c, d):
                await put(store, b"%d" % number, metadata=later)
        for _ in range(4):  # the later ones tell the other server of each group
            assert (await run(groups, 2)).ok
        for store in (a, b, c, d):
            assert [metadata_on(store, id) for id in store.blobs] == [FIRST] * 20
        assert (await run(groups, 2)).idle


@ensureDeferred
async def test_a_dry_run_tells_and_does_nothing():
    a, b = stores("a", "b")
    id = (await put(a, b"x", metadata=FIRST)).id
    await put(b, b"x", metadata=LATER)
    recorded = RecordedReport()
    await run({"one": group(a), "two": group(b)}, 1, recorded, dry_run=True)
    assert recorded.notes == [f"update the metadata of {id} on {name}" for name in "ab"]
    assert metadata_on(b, id) == LATER


@ensureDeferred
async def test_a_group_that_is_only_read_from_keeps_what_it_has():
    """And nothing has failed."""
    a, b = stores("a", "b")
    id = (await put(a, b"x", metadata=FIRST)).id
    await put(b, b"x", metadata=LATER)
    summary = await run({"one": group(a), "two": (Member(b, readonly=True),)}, 1)
    assert (summary.ok, metadata_on(b, id)) == (True, LATER)
    await run({"one": (Member(a, readonly=True),), "two": group(b)}, 1)
    assert metadata_on(b, id) == FIRST


@ensureDeferred
async def test_other_bytes_are_left_alone():
    """A name can stand for other bytes in another group."""
    a, b = stores("a", "b")
    await put(a, b"x", "name", FIRST)
    await put(b, b"y", "name", LATER)
    summary = await run({"one": group(a), "two": group(b)}, 1)
    assert (summary.ok, summary.settled) == (True, 0)
    assert metadata_on(b, "name") == LATER


@pytest.mark.parametrize("first", ["manifest", "object"])
@ensureDeferred
async def test_an_object_and_its_manifest_come_to_say_the_same(first):
    """What was said first, of whichever; and each stays what it is."""
    a, b = stores("a", "b")
    id, text, marked = manifest_of(body_of(5000), 1000)
    mark = {MARK: marked[MARK]}
    versions = (FIRST, LATER) if first == "manifest" else (LATER, FIRST)
    await put(a, text, id, {**mark, **versions[0]})
    await put(b, body_of(5000), id, versions[1])
    for each in (body_of(5000)[start : start + 1000] for start in range(0, 5000, 1000)):
        await put(a, each)
    groups = {"one": group(a), "two": group(b)}
    summary = await run(groups, 1)
    assert (summary.ok, summary.settled) == (True, 2)
    assert (metadata_on(a, id), metadata_on(b, id)) == ({**mark, **FIRST}, FIRST)
    assert (await run(groups, 1)).idle


@ensureDeferred
async def test_a_server_that_does_not_answer_is_no_reason_to_believe_that_all_agree():
    """It is compared when it is there again, though nothing has changed."""
    a, b, state = MemoryStore("a"), MemoryStore("b"), PassState()
    id = (await put(a, b"x", metadata=FIRST)).id
    await put(b, b"x", metadata=LATER)
    groups = {"one": group(a), "two": group(FailingStore("b"))}
    assert not (await run(groups, 1, state=state)).ok
    groups["two"] = group(b)
    assert (await run(groups, 1, state=state)).ok
    assert metadata_on(b, id) == FIRST


@ensureDeferred
async def test_what_is_in_order_is_not_compared_each_time():
    """While no server holds anything else."""

    class Counting(MemoryStore):
        asked = 0

        async def digests(self):
            self.answer = getattr(self, "answer", None) or await super().digests()
            return self.answer

        async def blob_digests(self, partition):
            self.asked += 1
            return await super().blob_digests(partition)

    a, b, state = Counting("a"), Counting("b"), PassState()
    for store in (a, b):
        await put(store, b"x", metadata=FIRST)
    counts = []
    for _ in range(3):
        assert (await run({"one": group(a), "two": group(b)}, 1, state=state)).ok
        counts.append(a.asked)
    assert counts[1] == counts[2]
