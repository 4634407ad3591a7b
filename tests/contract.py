"""The contract of a blob store, as a suite: each store's tests inherit it."""

from __future__ import annotations

from contextlib import aclosing
from functools import reduce
from hashlib import sha1, sha256
from itertools import count

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.defer import ensureDeferred as deferred
from zope.interface.verify import verifyObject

from sos.errors import Conflict, Deleted, Incomplete, Mismatch, NotFound
from sos.interfaces import (
    SMALL_BODY,
    IBlobStore,
    IBlobWriter,
    IOneStepStore,
    IPromptStore,
    IReplicaStore,
)
from sos.model.digest import PartitionDigest, blob_digest, hash_of, record_sum
from sos.model.ids import partition, sort_key
from sos.model.manifest import MARK
from sos.model.merge import Times, merge, tombstone
from sos.model.metadata import (
    EMPTY,
    EXPIRES_AT,
    PART_AT,
    SET_AT,
    STORED_AT,
    encode,
    unmarked,
    version,
)
from tests.support.blobs import (
    body_of,
    colliding,
    content,
    content_id,
    manifest_of,
    put,
    shown,
)

# Ticks, of 2026.
BASE = 179 * 10**12
SIZES = (0, 1, 1000, SMALL_BODY - 1, SMALL_BODY, SMALL_BODY + 1, 300_000, 1_000_000)


def partitions(ids: list[str]) -> list[str]:
    return sorted(set(map(partition, ids)))


def twin_of(wanted: str) -> str:
    """Return an opaque name in the partition *wanted*."""
    return next(name for n in count() if partition(name := f"twin{n}") == wanted)


def stored_until(stored, end):
    """Return the times of an object that expires, both in ticks after the base."""
    return {STORED_AT: str(BASE + stored), EXPIRES_AT: str(BASE + end)}


class StoreContract:
    """Inherit, and give a fixture ``store``: an open store with nothing in it."""

    @ensureDeferred
    async def test_it_provides_the_interface(self, store):
        """Stores and writers have every method, with the arguments it should have."""
        assert verifyObject(IBlobStore, store)
        writer = store.writer()
        assert verifyObject(IBlobWriter, writer)
        writer.abort()

    @pytest.mark.parametrize("size", SIZES)
    @ensureDeferred
    async def test_a_body_comes_back_as_it_went_in(self, store, size):
        """A body of any size is read back byte for byte, under the SHA-1 of its content."""
        body = body_of(size)
        info = await put(store, body)
        assert (info.id, info.size) == (content_id(body), size)
        assert await content(await store.read(info.id)) == body
        assert (await store.stat(info.id)).size == size

    @pytest.mark.parametrize("size", [100, 700_000])
    @ensureDeferred
    async def test_a_part_of_a_body_can_be_read(self, store, size):
        """Any part, and the size that is told is that of the whole."""
        body = body_of(size)
        id = (await put(store, body, metadata={"X-A": "1"})).id
        for span in ((0, size), (0, 1), (size - 1, size), (size // 3, size // 3 * 2), (7, 90)):
            blob = await store.read(id, span)
            assert (blob.info.size, shown(blob.info.metadata)) == (size, {"X-A": "1"})
            assert await content(blob) == body[slice(*span)]
        with pytest.raises(NotFound):
            await store.read("missing", (0, 1))

    @ensureDeferred
    async def test_a_small_body_is_read_whole_and_a_larger_one_in_pieces(self, store):
        """No store hands out more than 64 KiB as one piece of memory."""
        small = await put(store, body_of(SMALL_BODY))
        large = await put(store, body_of(SMALL_BODY + 1))
        assert isinstance((await store.read(small.id)).body, bytes)
        blob = await store.read(large.id)
        assert not isinstance(blob.body, bytes)
        await blob.body.aclose()

    @ensureDeferred
    async def test_a_body_may_come_in_many_pieces(self, store):
        """How a body is cut on its way in makes no difference."""
        body = body_of(200_000)
        writer = store.writer()
        for start in range(0, len(body), 7_777):
            await writer.write(body[start : start + 7_777])
        info = await writer.commit()
        assert info.id == content_id(body)
        assert await content(await store.read(info.id)) == body

    @pytest.mark.parametrize("size", [10, 100_000])
    @pytest.mark.parametrize("algorithm", [sha1, sha256])
    @ensureDeferred
    async def test_a_content_id_must_be_the_hash_of_the_body(self, store, algorithm, size):
        """Other bytes under a content id are refused, and nothing is stored."""
        body = body_of(size)
        id = algorithm(body).hexdigest()
        with pytest.raises(Mismatch):
            await put(store, body[:-1] + b"!", id)
        with pytest.raises(NotFound):
            await store.read(id)
        assert (await put(store, body, id)).id == id
        assert await content(await store.read(id)) == body

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_the_bytes_of_an_opaque_name_are_fixed_by_the_first_write(self, store, size):
        """The same bytes again are a success, others a conflict; the first stay."""
        body = body_of(size)
        await put(store, body, "holiday")
        await put(store, body, "holiday")
        with pytest.raises(Conflict):
            await put(store, body_of(size, seed=1), "holiday")
        assert await content(await store.read("holiday")) == body

    @pytest.mark.parametrize("size", [320, SMALL_BODY, 100_000, 1_500_000])
    @ensureDeferred
    async def test_another_body_of_the_same_hash_is_a_conflict(self, store, size):
        """It is not acknowledged, and the first stays and can be stored again."""
        first, second = colliding(size)
        id = (await put(store, first, metadata={"X-A": "1"})).id
        for name in (None, id):
            with pytest.raises(Conflict, match="another body with the id"):
                await put(store, second, name)
        assert (await put(store, first)).id == id
        blob = await store.read(id)
        assert shown(blob.info.metadata) == {"X-A": "1"}
        assert await content(blob) == first

    @pytest.mark.parametrize("size", [320, 100_000])
    @ensureDeferred
    async def test_of_two_bodies_of_the_same_hash_one_is_stored(self, store, size):
        """Whoever is acknowledged reads back what it sent, also when both come at once."""
        bodies = [body for body in colliding(size) for _ in range(3)]
        writing = [deferred(put(store, body)) for body in bodies]
        done = await DeferredList(writing, consumeErrors=True)
        kept = {body for body, (stored, _) in zip(bodies, done, strict=True) if stored}
        assert [await content(await store.read(content_id(bodies[0])))] == list(kept)
        refused = [outcome for stored, outcome in done if not stored]
        assert len(refused) == 3
        assert all(failure.check(Conflict) for failure in refused)

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_metadata_is_kept_as_it_was_first_stored(self, store, size):
        """Storing the same content again leaves the metadata of the first time."""
        body = body_of(size)
        metadata = {"X-Mime-Type": "image/png", "X-Name": "caf\u00e9 \udcff"}
        id = (await put(store, body, metadata=metadata)).id
        await put(store, body, metadata={"X-Name": "other"})
        assert shown((await store.stat(id)).metadata) == metadata
        blob = await store.read(id)
        assert shown(blob.info.metadata) == metadata
        await content(blob)

    @ensureDeferred
    async def test_what_is_not_there_is_not_found(self, store):
        """Neither read nor stat find a blob that was never stored."""
        with pytest.raises(NotFound):
            await store.read(content_id(b"never"))
        with pytest.raises(NotFound):
            await store.stat("never")

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_a_body_of_another_size_than_announced_is_refused(self, store, size):
        """A body that ends early is incomplete, and nothing is stored."""
        body = body_of(size)
        writer = store.writer(content_id(body), size=size + 1)
        await writer.write(body)
        with pytest.raises(Incomplete):
            await writer.commit()
        with pytest.raises(NotFound):
            await store.stat(content_id(body))

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_an_aborted_blob_leaves_nothing(self, store, size):
        """After an abort there is no blob, and the same can be stored afresh."""
        body = body_of(size)
        writer = store.writer(content_id(body), size=size)
        await writer.write(body)
        writer.abort()
        writer.abort()
        with pytest.raises(NotFound):
            await store.stat(content_id(body))
        info = await put(store, body)
        assert await content(await store.read(info.id)) == body

    @ensureDeferred
    async def test_an_abort_after_the_commit_does_nothing(self, store):
        """What has been committed stays."""
        writer = store.writer()
        await writer.write(b"kept")
        info = await writer.commit()
        writer.abort()
        assert await content(await store.read(info.id)) == b"kept"

    @pytest.mark.parametrize("size", [10, 200_000])
    @ensureDeferred
    async def test_the_same_blob_can_be_stored_by_several_at_once(self, store, size):
        """All of them succeed, and there is one blob."""
        body = body_of(size)
        stored = await gatherResults([deferred(put(store, body)) for _ in range(8)])
        assert {info.id for info in stored} == {content_id(body)}
        assert await content(await store.read(content_id(body))) == body

    @ensureDeferred
    async def test_a_body_can_be_left_unread(self, store):
        """Closing a body in its middle harms neither it nor the store."""
        body = body_of(1_000_000)
        info = await put(store, body)
        blob = await store.read(info.id)
        async with aclosing(blob.body):
            async for _ in blob.body:
                break
        assert await content(await store.read(info.id)) == body

    @ensureDeferred
    async def test_an_open_store_says_that_it_is_writable(self, store):
        """The status of a store that is well has no reason why it is not."""
        status = await store.status()
        assert (status.writable, status.reason) == (True, None)


class ManifestContract:
    """Inherit as well, where a store keeps manifests."""

    @pytest.mark.parametrize("chunk_size", [1000, 30])
    @ensureDeferred
    async def test_a_manifest_is_kept_under_the_id_of_its_object(self, store, chunk_size):
        """It is verified as what it is, comes back with its mark, and in parts."""
        id, text, metadata = manifest_of(body_of(50_000), chunk_size)
        assert (len(text) > SMALL_BODY) == (chunk_size == 30)
        assert (await put(store, text, id, metadata)).id == id
        for blob in (await store.read(id), await store.read(id, (0, len(text)))):
            assert (blob.info.size, shown(blob.info.metadata)) == (len(text), metadata)
            assert await content(blob) == text
        info = await store.stat(id)
        assert (info.size, shown(info.metadata)) == (len(text), metadata)
        await put(store, text, id, metadata)
        assert await store.listing() == [id]

    @pytest.mark.parametrize("chunk_size", [1000, 30])
    @pytest.mark.parametrize("wrong", ["another", "the object", "mark", "id", "name", "none"])
    @ensureDeferred
    async def test_what_is_no_manifest_of_its_object_is_refused(self, store, wrong, chunk_size):
        """And nothing is stored."""
        body = body_of(50_000)
        id, text, metadata = manifest_of(body, chunk_size)
        id, text, metadata = {
            "another": (id, manifest_of(body + b"!", chunk_size)[1], metadata),
            "the object": (id, body, metadata),
            "mark": (id, text, {MARK: "50001"}),
            "id": (content_id(text), text, metadata),
            "name": ("name", text, metadata),
            "none": (None, text, metadata),
        }[wrong]
        with pytest.raises(Mismatch):
            await put(store, text, id, metadata)
        with pytest.raises(Mismatch):
            await put(store, text, id, {**metadata, MARK: "x"})
        assert await store.listing() == []

    @ensureDeferred
    async def test_a_manifest_without_its_mark_is_refused(self, store):
        """A body that does not hash to its id is what it is."""
        id, text, _ = manifest_of(body_of(5000), 1000)
        with pytest.raises(Mismatch):
            await put(store, text, id)
        assert await store.listing() == []

    @pytest.mark.parametrize(("size", "chunk_size"), [(5000, 1000), (100_000, 1000), (100_000, 30)])
    @pytest.mark.parametrize("first", ["object", "manifest"])
    @ensureDeferred
    async def test_an_object_and_its_manifest_are_the_same_blob(
        self, store, first, size, chunk_size
    ):
        """Whichever comes second is a success; the object takes its manifest's place."""
        body = body_of(size)
        id, text, metadata = manifest_of(body, chunk_size)
        await put(store, b"a neighbour", "neighbour")
        both = [(text, metadata), (body, {"X-Name": "m"})]
        if first == "object":
            both.reverse()
        await put(store, both[0][0], id, both[0][1])
        info = await put(store, both[1][0], id, both[1][1])
        assert (info.id, info.size) == (id, len(both[1][0]))
        kept = {"X-Name": "m" if first == "object" else "n"}

        async def look():
            blob = await store.read(id)
            assert (blob.info.size, shown(blob.info.metadata)) == (size, kept)
            assert await content(blob) == body
            assert sorted(await store.listing()) == sorted([id, "neighbour"])
            digest = PartitionDigest().with_blob(size, record_sum(id, encode(kept), b""))
            assert (await store.digests())[partition(id)] == digest

        await look()
        await put(store, manifest_of(body, 700)[1], id, metadata)
        await put(store, body, id)
        await look()

    @ensureDeferred
    async def test_a_manifest_leaves_another_where_it_is(self, store):
        """Each says what the object is."""
        body = body_of(5000)
        id, text, metadata = manifest_of(body, 1000)
        await put(store, text, id, metadata)
        await put(store, manifest_of(body, 700)[1], id, metadata)
        assert await content(await store.read(id)) == text

    @ensureDeferred
    async def test_a_manifest_is_never_settled_to_be_the_object(self, store):
        """Nor the other way round: metadata alone cannot make one of the other."""
        body = body_of(5000)
        id, text, metadata = manifest_of(body, 1000)
        await put(store, text, id, metadata)
        await put(store, body, "object")
        for name, wrong in (
            (id, {}),
            (id, {MARK: "4999"}),
            ("object", {MARK: "5000"}),
        ):
            with pytest.raises(Conflict):
                await store.reconcile(name, wrong)
        assert shown((await store.stat(id)).metadata) == metadata
        lower = {MARK: "5000", "X-Name": "another"}
        await store.reconcile(id, {**lower, SET_AT: "0"})
        first = min(lower, metadata, key=lambda each: version(unmarked(each)))
        assert shown((await store.stat(id)).metadata) == first
        digest = (await store.blob_digests(partition(id)))[id]
        assert (digest.size, digest.version) == (len(text), version(first))


class OneStepContract:
    """For stores that take small blobs in one step, beside :class:`StoreContract`."""

    @pytest.mark.parametrize("size", [size for size in SIZES if size <= SMALL_BODY])
    @ensureDeferred
    async def test_a_small_blob_is_stored_in_one_step(self, store, size):
        """It is as a writer would have stored it."""
        assert verifyObject(IOneStepStore, store)
        body = body_of(size)
        id = content_id(body)
        metadata = {"X-Mime-Type": "text/plain", SET_AT: "1"}
        for given in (None, id, "aname"):
            info = await store.put(given, metadata, body)
            assert (info.id, info.size) == (given or id, size)
            blob = await store.read(info.id)
            assert shown(blob.info.metadata) == shown(metadata)
            assert await content(blob) == body
        await store.put(id, {"X-Mime-Type": "other", SET_AT: "2"}, body)
        assert shown((await store.stat(id)).metadata) == shown(metadata)

    @ensureDeferred
    async def test_what_a_writer_refuses_is_refused_in_one_step(self, store):
        """Another content, and other bytes under a name."""
        await store.put("aname", EMPTY, b"one")
        for id, error in [(content_id(b"one"), Mismatch), ("aname", Conflict)]:
            with pytest.raises(error):
                await store.put(id, EMPTY, b"two")
        with pytest.raises(NotFound):
            await store.stat(content_id(b"one"))


class PromptContract(OneStepContract):
    """For stores that have small blobs at hand, beside :class:`StoreContract`."""

    @pytest.mark.parametrize("size", SIZES)
    @ensureDeferred
    async def test_a_small_blob_is_at_hand(self, store, size):
        """What is at hand is what ``read`` returns."""
        assert verifyObject(IPromptStore, store)
        body = body_of(size)
        info = await put(store, body, metadata={"X-Mime-Type": "text/plain"})
        blob = store.peek(info.id)
        if size <= SMALL_BODY:
            assert blob == await store.read(info.id)
            assert blob.body == body
        else:
            assert blob is None

    @ensureDeferred
    async def test_a_manifest_that_is_none_is_refused_in_one_step(self, store):
        """And what else is refused changes nothing."""
        await store.put("aname", EMPTY, b"one")
        with pytest.raises(Mismatch):
            await store.put(content_id(b"three"), {MARK: "5"}, b"two")
        assert await store.listing() == ["aname"]

    @ensureDeferred
    async def test_a_missing_blob_is_not_at_hand(self, store):
        """``read`` says that it is missing."""
        assert store.peek(content_id(b"missing")) is None
        assert store.peek("aname") is None


class ReplicaContract:
    """Inherit as well, where a store can be one of several that hold the same."""

    @ensureDeferred
    async def test_a_listing_is_ordered_by_partition_and_id(self, store):
        """Opaque names take their place among the content ids."""
        stored = [(await put(store, b"%d" % n)).id for n in range(20)]
        stored += [(await put(store, b"%d" % n, f"name{n}")).id for n in range(20)]
        assert await store.listing() == sorted(stored, key=sort_key)

    @ensureDeferred
    async def test_a_listing_goes_on_from_where_a_page_ended(self, store):
        """Pages put together are the whole, whether or not *after* is stored."""
        for n in range(25):
            await put(store, b"%d" % n)
        whole = await store.listing()
        pages = []
        page = await store.listing(limit=10)
        while page:
            pages.append(len(page))
            last = page[-1]
            page = await store.listing(after=last, limit=10)
            assert page == whole[sum(pages) :][:10]
        assert pages == [10, 10, 5]
        behind = [id for id in whole if sort_key(id) > sort_key("between")]
        assert await store.listing(after="between") == behind
        assert await store.listing(after="f" * 40) == []

    @ensureDeferred
    async def test_a_listing_of_one_partition(self, store):
        """All of it and nothing else, in pages too."""
        for n in range(40):
            await put(store, b"%d" % n, f"name{n}")
        whole = await store.listing()
        pages = [await store.listing(partition=each) for each in partitions(whole)]
        assert [id for page in pages for id in page] == whole
        last = partition(whole[-1])
        await put(store, b"twin", twin := twin_of(last))
        both = await store.listing(partition=last)
        assert both == sorted([whole[-1], twin], key=sort_key)
        assert await store.listing(partition=last, limit=1) == both[:1]
        assert await store.listing(partition=last, after=both[0]) == both[1:]
        assert await store.listing(partition=last, after=both[1]) == []

    @ensureDeferred
    async def test_what_several_store_at_once_is_listed_once(self, store):
        """And what was aborted is not listed."""
        body = body_of(1000)
        writer = store.writer()
        await writer.write(b"aborted")
        writer.abort()
        await gatherResults([deferred(put(store, body)) for _ in range(8)])
        assert await store.listing() == [content_id(body)]

    @ensureDeferred
    async def test_it_is_a_replica(self, store):
        """With the arguments that they should have."""
        assert verifyObject(IReplicaStore, store)

    @ensureDeferred
    async def test_digests_follow_from_what_is_stored(self, store):
        """Count, bytes and sum of each partition, whatever was tried in between."""
        assert await store.digests() == {}
        expected = {}
        for n in range(30):
            body, metadata = body_of(n), {"X-N": str(n)} if n % 2 else {}
            info = await put(store, body, f"name{n}" if n % 3 else None, metadata)
            name = partition(info.id)
            expected[name] = expected.get(name, PartitionDigest()).with_blob(
                n, record_sum(info.id, encode(metadata), hash_of(info.id, body))
            )
            await put(store, body, info.id, {"X-Other": "ignored"})
        with pytest.raises(Conflict):
            await put(store, b"other", "name1")
        assert await store.digests() == expected
        for name in expected:
            listed = await store.blob_digests(name)
            assert len(listed) == expected[name].count
            assert sum(each.size for each in listed.values()) == expected[name].bytes
            for id, each in listed.items():
                metadata = (await store.stat(id)).metadata
                body = await content(await store.read(id))
                assert each == blob_digest(id, len(body), metadata, hash_of(id, body))
        assert await store.blob_digests(next(n for n in ("000", "001") if n not in expected)) == {}

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_stores_that_are_told_of_each_other_agree(self, store, size):
        """The metadata that was set first stays, whoever tells of it, and how often."""
        body = body_of(size)
        candidates = [
            {},
            {"X-A": "1", SET_AT: str(BASE + 1)},
            {"X-A": "2", "X-Mime-Type": "text/plain", SET_AT: str(BASE)},
            {PART_AT: str(BASE + 2)},
        ]
        first = reduce(merge, candidates)
        assert shown(first) == shown(candidates[2])
        for n, kept in enumerate(candidates):
            await put(store, body, f"name{n}", kept)
            for metadata in (*candidates, *candidates):
                await store.reconcile(f"name{n}", metadata)
                known = (await store.stat(f"name{n}")).metadata
                assert merge(known, metadata) == known
            blob = await store.read(f"name{n}")
            assert blob.info.metadata == first
            assert await content(blob) == body
            sum = record_sum(f"name{n}", encode(first), hash_of(f"name{n}", body))
            digest = PartitionDigest().with_blob(size, sum)
            assert (await store.digests())[partition(f"name{n}")] == digest
        with pytest.raises(NotFound):
            await store.reconcile("missing", {})

    @pytest.mark.parametrize("size", [0, 10, 100_000])
    @ensureDeferred
    async def test_who_has_the_lease_can_drop_a_blob(self, store, size):
        """And nobody else; the blob can be stored again."""
        body = body_of(size)
        id = (await put(store, body)).id
        await put(store, b"another", "name")
        before = await store.digests()
        with pytest.raises(Conflict):
            await store.drop(id, "0" * 32)
        token = await store.lease(60)
        with pytest.raises(Conflict):
            await store.drop(id, "0" * 32)
        assert await content(await store.read(id)) == body
        await store.drop(id, token)
        for ask in (store.stat(id), store.read(id)):
            with pytest.raises(NotFound):
                await ask
        assert await store.listing() == ["name"]
        assert list(await store.digests()) == [partition("name")]
        await store.drop(id, token)
        await put(store, body)
        assert await content(await store.read(id)) == body
        assert await store.digests() == before

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_a_blob_is_dropped_only_if_it_is_what_is_known_of_it(self, store, size):
        """Something else that has come in its place meanwhile stays."""
        body = body_of(size)
        await put(store, body, "name", {"X-A": "1"})
        known = (await store.blob_digests(partition("name")))["name"]
        token = await store.lease(60)
        hash = hash_of("name", body_of(size, seed=1)).hex()
        for other in (
            evolve(known, size=size + 1),
            evolve(known, version=version({})),
            evolve(known, hash=hash),
        ):
            with pytest.raises(Conflict):
                await store.drop("name", token, other)
        assert await content(await store.read("name")) == body
        await store.drop("name", token, known)
        assert await store.listing() == []
        await store.drop("name", token, known)

    @ensureDeferred
    async def test_a_manifest_is_dropped_but_not_the_object_that_took_its_place(self, store):
        """The object can have come after the manifest was looked at."""
        body = body_of(5000)
        id, text, metadata = manifest_of(body, 1000)
        await put(store, text, id, metadata)
        known = (await store.blob_digests(partition(id)))[id]
        await put(store, body, id)
        token = await store.lease(60)
        with pytest.raises(Conflict):
            await store.drop(id, token, known)
        assert await content(await store.read(id)) == body

    @pytest.mark.parametrize("size", [0, 10, 100_000])
    @ensureDeferred
    async def test_a_deleted_object_is_gone_until_it_is_stored_again(self, store, size):
        """Who asks learns that it was deleted; replicas learn so from the digests."""
        body = body_of(size)
        id = content_id(body)
        said = {"X-A": "1", SET_AT: str(BASE)}
        await put(store, body, id, said)
        await put(store, b"another", "name")
        stone = tombstone(BASE + 1)
        await store.reconcile(id, stone)
        for ask in (store.stat(id), store.read(id), store.read(id, (0, size and 1))):
            with pytest.raises(Deleted) as caught:
                await ask
            assert caught.value.metadata == stone
        assert await store.listing() == ["name"]
        assert await store.listing(partition=partition(id)) == []
        buried = blob_digest(id, 0, stone, hash_of(id, b""))
        assert await store.blob_digests(partition(id)) == {id: buried}
        sum = record_sum(id, encode(stone), b"")
        assert (await store.digests())[partition(id)] == PartitionDigest().with_blob(0, sum)
        for known in (stone, tombstone(BASE), said, {}):
            await store.reconcile(id, known)
        with pytest.raises(Deleted):
            await put(store, body, id, said)
        assert await store.blob_digests(partition(id)) == {id: buried}
        again = {"X-A": "2", SET_AT: str(BASE + 2)}
        with pytest.raises(Deleted):
            await store.reconcile(id, again)
        info = await put(store, body, id, again)
        assert info.size == size
        blob = await store.read(id)
        assert blob.info.metadata == {**again, **stone, STORED_AT: again[SET_AT]}
        assert await content(blob) == body
        await store.reconcile(id, stone)
        assert await store.listing(partition=partition(id)) == [id]

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_a_later_upload_is_noted(self, store, size):
        """Else a deletion between the two uploads could undo the second."""
        body = body_of(size)
        first, second = ({"X-A": "1", SET_AT: str(BASE + n)} for n in (0, 2))
        id = (await put(store, body, metadata=first)).id
        await put(store, body, id, second)
        kept = {**first, STORED_AT: second[SET_AT]}
        assert (await store.stat(id)).metadata == kept
        digests = await store.blob_digests(partition(id))
        assert digests == {id: blob_digest(id, size, kept, hash_of(id, body))}
        await store.reconcile(id, tombstone(BASE + 1))
        blob = await store.read(id)
        assert blob.info.metadata == {STORED_AT: second[SET_AT], **tombstone(BASE + 1)}
        assert await content(blob) == body

    @ensureDeferred
    async def test_listings_tell_when_a_blob_was_stored_and_deleted(self, store):
        """Garbage collection goes by that."""
        id = (await put(store, b"a chunk", metadata={PART_AT: str(BASE)})).id
        gone = content_id(b"never there")
        await store.reconcile(gone, tombstone(BASE + 1))
        for known, at in ((Times(None, BASE, None), id), (Times(None, None, BASE + 1), gone)):
            assert (await store.blob_digests(partition(at)))[at].times == known
        await store.reconcile(id, tombstone(BASE + 1))
        listed = (await store.blob_digests(partition(id)))[id]
        assert listed.times == Times(None, BASE, BASE + 1)
        await store.drop(id, await store.lease(60), listed)
        assert await store.listing() == []

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_the_latest_end_of_an_object_is_kept(self, store, size):
        """And none is the last of all; it is in the digests."""
        body = body_of(size)
        first = {"X-A": "1", SET_AT: str(BASE), **stored_until(0, 100)}
        id = (await put(store, body, metadata=first)).id
        for received, kept in (
            (stored_until(0, 1), first),
            (stored_until(1, 200), {**first, **stored_until(1, 200)}),
            (stored_until(2, 50), {**first, **stored_until(2, 200)}),
        ):
            await store.reconcile(id, received)
            assert (await store.stat(id)).metadata == kept
            hash = hash_of(id, body)
            listed = (await store.blob_digests(partition(id)))[id]
            digest = blob_digest(id, size, kept, hash)
            assert (listed, listed.times) == (digest, digest.times)
            sum = PartitionDigest().with_blob(size, record_sum(id, encode(kept), hash))
            assert (await store.digests())[partition(id)] == sum
        await put(store, body, id, {SET_AT: str(BASE + 3)})
        for_ever = {"X-A": "1", SET_AT: str(BASE), STORED_AT: str(BASE + 3)}
        assert (await store.stat(id)).metadata == for_ever
        await store.reconcile(id, stored_until(4, 300))
        assert EXPIRES_AT not in (await store.stat(id)).metadata

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_what_is_missing_can_be_deleted(self, store, size):
        """It can still come from a server that has not heard of it; then drop the tombstone."""
        body = body_of(size)
        id = content_id(body)
        stone = tombstone(BASE + 1)
        await store.reconcile(id, stone)
        with pytest.raises(Deleted):
            await put(store, body, id, {SET_AT: str(BASE)})
        assert list(await store.digests()) == [partition(id)]
        known = (await store.blob_digests(partition(id)))[id]
        await store.drop(id, await store.lease(60), known)
        assert await store.digests() == {}
        await put(store, body, id, {SET_AT: str(BASE)})
        assert await content(await store.read(id)) == body

    @ensureDeferred
    async def test_a_chunk_of_another_object_outlives_its_own(self, store):
        """Its bytes are needed still."""
        body = body_of(100_000)
        id = (await put(store, body, metadata={"X-A": "1", SET_AT: str(BASE)})).id
        await put(store, body, id, {PART_AT: str(BASE)})
        await store.reconcile(id, stone := tombstone(BASE + 1))
        blob = await store.read(id)
        assert blob.info.metadata == {PART_AT: str(BASE), **stone}
        assert await content(blob) == body
        with pytest.raises(Deleted):  # the upload is older than the deletion
            await put(store, body, id, {SET_AT: str(BASE)})

    @ensureDeferred
    async def test_one_at_a_time_has_the_lease(self, store):
        """Until it is given back, or has ended."""
        token = await store.lease(60)
        with pytest.raises(Conflict):
            await store.lease(60)
        await store.release("another")
        with pytest.raises(Conflict):
            await store.lease(60)
        await store.release(token)
        await put(store, b"something", "name")
        with pytest.raises(Conflict):
            await store.drop("name", token)
        other = await store.lease(60)
        assert other != token
        with pytest.raises(Conflict):
            await store.drop("name", token)
        assert await store.lease(60, other) == other
        with pytest.raises(Conflict):
            await store.lease(60, token)
        await store.drop("name", other)
        await store.release(other)
        with pytest.raises(Conflict):
            await store.lease(60, other)

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_a_blob_that_is_read_can_be_dropped(self, store, size):
        """Who has begun to read it reads it to its end."""
        body = body_of(size)
        id = (await put(store, body)).id
        blob = await store.read(id)
        await store.drop(id, await store.lease(60))
        assert await content(blob) == body
