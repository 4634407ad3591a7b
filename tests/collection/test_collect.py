"""What a collection removes, what it leaves, and when it refuses."""

from __future__ import annotations

import pytest
from attrs import evolve

from sos.collection import Report
from sos.collection.named_chunks import NamedChunks
from sos.errors import Unavailable
from sos.model.manifest import MARK
from sos.model.merge import times
from sos.model.metadata import DELETED_AT, PART_AT, STORED_AT, is_tombstone, ticks
from tests.collection.cluster import CHUNK, GRACE, TOMBSTONE_AGE, Cluster
from tests.support.blobs import body_of, content_id

BODY = body_of(250)
ID = content_id(BODY)
CHUNKS = [content_id(BODY[start : start + CHUNK]) for start in range(0, 250, CHUNK)]
# Its first two chunks are those of BODY.
SIMILAR = BODY[: 2 * CHUNK] + b"and another end"


@pytest.fixture
def cluster():
    return Cluster([0])


def held(cluster, id):
    """Return the servers with a body of *id*, without their tombstones."""
    return [
        server.name
        for server in cluster.servers
        if id in server.blobs and not is_tombstone(server.blobs[id].info.metadata)
    ]


def collected(cluster, **options):
    summary = cluster.run(cluster.collect(**options))
    assert summary.ok, summary
    return summary


def refusal(cluster):
    before = [dict(server.blobs) for server in cluster.servers]
    summary = cluster.run(cluster.collect())
    assert not summary.ok
    assert [dict(server.blobs) for server in cluster.servers] == before
    return summary.refused


def test_chunks_of_an_upload_that_broke_off(cluster):
    """After the grace period, and not before."""
    cluster.run(cluster.break_off(0, BODY))
    cluster.wait(GRACE - 1)
    assert collected(cluster).copies == 0
    cluster.wait(2)
    summary = collected(cluster)
    assert (summary.garbage, summary.copies, summary.bytes) == (2, 4, 400)
    assert all(server.blobs == {} for server in cluster.servers)


def test_chunks_of_objects_stay(cluster):
    """However old they are."""
    cluster.run(cluster.upload(0, BODY))
    cluster.wait(100 * GRACE)
    summary = collected(cluster)
    assert (summary.objects, summary.manifests, summary.chunks, summary.copies) == (1, 2, 3, 0)
    assert cluster.fetch(0, ID) == BODY


def test_chunks_of_a_deleted_object(cluster):
    """But not those that another object needs, or that somebody has stored as an object."""
    for body in (BODY, SIMILAR, BODY[2 * CHUNK :]):
        cluster.run(cluster.upload(0, body))
    cluster.run(cluster.delete(0, ID))
    cluster.wait(2 * GRACE)
    assert collected(cluster).copies == 0
    cluster.run(cluster.delete(0, content_id(SIMILAR)))
    summary = collected(cluster)
    assert summary.garbage == 3
    assert [len(held(cluster, chunk)) for chunk in CHUNKS] == [0, 0, 2]
    assert cluster.fetch(0, CHUNKS[2]) == BODY[2 * CHUNK :]


def test_a_chunk_whose_own_object_was_deleted(cluster):
    """It goes with the last manifest that names it, and stays deleted."""
    for body in (BODY, BODY[:CHUNK]):
        cluster.run(cluster.upload(0, body))
    cluster.run(cluster.delete(0, CHUNKS[0]))
    cluster.wait(2 * GRACE)
    collected(cluster)
    assert cluster.fetch(0, ID) == BODY
    cluster.run(cluster.delete(0, ID))
    assert collected(cluster).garbage == 3
    assert held(cluster, CHUNKS[0]) == []
    tombstones = [server.blobs.get(CHUNKS[0]) for server in cluster.servers]
    assert any(each is not None and is_tombstone(each.info.metadata) for each in tombstones)


def test_what_older_versions_have_stored_stays(cluster):
    """They did not tell chunks from objects."""
    cluster.run(cluster.break_off(0, BODY))
    for server in cluster.servers:
        for id, stored in server.blobs.items():
            server.blobs[id] = evolve(stored, info=evolve(stored.info, metadata={}))
    cluster.wait(100 * GRACE)
    assert collected(cluster).copies == 0
    assert len(held(cluster, CHUNKS[0])) == 2


def test_old_tombstones(cluster):
    """They go when no server can bring the object back."""
    cluster.run(cluster.upload(0, BODY[:10]))
    id = content_id(BODY[:10])
    cluster.run(cluster.delete(0, id))
    cluster.wait(TOMBSTONE_AGE - 1)
    assert collected(cluster).tombstones == 0
    cluster.wait(2)
    assert collected(cluster).tombstones == 1
    assert not any(id in server.blobs for server in cluster.servers)


def test_a_tombstone_stays_while_a_server_has_the_object(cluster):
    """It has been away since before the deletion."""
    cluster.run(cluster.upload(0, BODY[:10]))
    id = content_id(BODY[:10])
    away = next(server for server in cluster.servers if held(cluster, id)[0] == server.name)
    kept = away.blobs[id]
    cluster.run(cluster.delete(0, id))
    away.blobs[id] = kept
    cluster.wait(2 * TOMBSTONE_AGE)
    assert collected(cluster).tombstones == 0
    cluster.rest()
    assert cluster.fetch(0, id) is None


def test_a_chunk_that_is_stored_again_meanwhile(cluster):
    """It stays, whenever the upload comes between."""
    for step in range(0, 200, 7):
        cluster = Cluster([0])
        cluster.run(cluster.break_off(0, BODY))
        cluster.wait(2 * GRACE)
        found = []
        cluster.begin(cluster.collect(), found.append)
        for _ in range(step):
            cluster.step(0)
        cluster.begin(cluster.upload(0, BODY))
        cluster.finish()
        cluster.rest()
        assert found[0].ok
        assert cluster.fetch(0, ID) == BODY
        assert cluster.run(cluster.collect()).ok


def test_a_long_upload_renews_its_chunks(cluster):
    """Those that are older than half of the grace period, before its manifest is stored."""
    writer = cluster.doors[0][1].writer()
    cluster.run(writer.write(BODY))
    cluster.wait(0.6 * GRACE)
    assert cluster.run(writer.commit()).id == ID
    cluster.wait(0.6 * GRACE)
    for chunk in CHUNKS:
        for server in cluster.servers:
            if chunk in server.blobs:
                part = times(server.blobs[chunk].info.metadata).part
                assert part / 100_000 > cluster.time - 0.7 * GRACE


def test_a_dry_run(cluster):
    """It names what it would remove, and removes nothing."""
    cluster.run(cluster.break_off(0, BODY))
    cluster.wait(2 * GRACE)
    noted = []
    summary = collected(cluster, report=Report(note=noted.append), dry_run=True)
    assert (summary.garbage, summary.copies) == (2, 0)
    assert sorted(line.split()[3] for line in noted) == sorted(CHUNKS[:2])
    assert len(held(cluster, CHUNKS[0])) == 2


class TestRefusals:
    """Whatever is in doubt, nothing is removed."""

    @pytest.fixture
    def cluster(self):
        cluster = Cluster([0])
        cluster.run(cluster.upload(0, BODY))
        cluster.run(cluster.break_off(0, body_of(250, 1)))
        cluster.wait(2 * GRACE)
        return cluster

    def test_a_server_that_does_not_answer(self, cluster):
        """It may have manifests that no other has."""
        for server in cluster.servers:
            server.away = True
            assert f"{server.name} does not answer" in refusal(cluster)
            server.away = False

    @pytest.mark.parametrize("method", ["digests", "blob_digests", "read", "lease"])
    def test_a_server_that_fails_later(self, cluster, method):
        """At any of its requests."""

        async def failing(*_):
            raise Unavailable(f"it cannot do {method}")

        for server in cluster.servers:
            setattr(server, method, failing)
        assert f"cannot do {method}" in refusal(cluster)

    def test_a_manifest_that_cannot_be_read(self, cluster):
        """Its chunks are unknown."""
        for server in cluster.servers:
            for id, stored in server.blobs.items():
                if MARK in stored.info.metadata:
                    server.blobs[id] = evolve(stored, body=b"junk")
        assert "is malformed" in refusal(cluster)

    def test_a_chunk_that_is_on_no_server(self, cluster):
        """There may be servers that are not configured here, whose objects need chunks here."""
        for server in cluster.servers:
            server.blobs.pop(CHUNKS[1], None)
        assert CHUNKS[1] in refusal(cluster)

    @pytest.mark.parametrize("skew", [-301, 301])
    def test_a_clock_that_is_wrong(self, cluster, skew):
        """What is old cannot be told."""
        server = cluster.servers[1]
        status = server.status

        async def skewed():
            return evolve(await status(), time=cluster.time + skew)

        server.status = skewed
        assert "clock" in refusal(cluster)

    def test_somebody_else_holds_the_lease(self, cluster):
        """An anti-entropy pass moves blobs between servers; later it is possible."""
        token = cluster.run(cluster.servers[0].lease(300))
        assert "lease" in refusal(cluster)
        cluster.run(cluster.servers[0].release(token))
        assert collected(cluster).garbage == 1  # the other chunk is one of BODY, too

    def test_the_leases_are_released(self, cluster):
        """Also after a refusal."""
        for server in cluster.servers:
            server.blobs.pop(CHUNKS[1], None)
        refusal(cluster)
        for server in cluster.servers:
            assert cluster.run(server.lease(10))

    def test_a_manifest_that_a_server_cannot_list(self, cluster):
        """It is marked as lost, and leaves the listings."""
        holders = [server for server in cluster.servers if ID in server.blobs]
        for server in holders:
            del server.blobs[ID]
            status = server.status

            async def with_loss(status=status):
                return evolve(await status(), lost=1, lost_ids=(ID,))

            server.status = with_loss
        assert f"has lost {ID}" in refusal(cluster)

    def test_a_lease_that_is_lost_meanwhile(self, cluster):
        """A pass may have moved a manifest to where this has looked already."""
        found = []
        cluster.begin(cluster.collect(), found.append)
        while not any(server._lease for server in cluster.servers):
            cluster.step(0)
        for server in cluster.servers:
            server._lease = None
        before = [dict(server.blobs) for server in cluster.servers]
        cluster.finish()
        assert "lease" in found[0].refused
        assert [dict(server.blobs) for server in cluster.servers] == before


@pytest.mark.parametrize("deleted", [0, 240, 10**6])
def test_a_server_that_is_wrong(cluster, deleted):
    """It says of an object that it is a chunk, whose object was deleted: others have it."""
    cluster.run(cluster.upload(0, BODY[:10]))
    id = content_id(BODY[:10])
    cluster.wait(2 * GRACE)
    (wrong,) = [server for server in cluster.servers if id not in server.blobs]
    honest = cluster.servers[0] if wrong is not cluster.servers[0] else cluster.servers[1]
    stored = honest.blobs[id]
    lie = {PART_AT: "1", DELETED_AT: str(ticks(cluster.time + deleted))}
    wrong.blobs[id] = evolve(stored, info=evolve(stored.info, metadata=lie))
    assert collected(cluster).copies == 0
    assert len(held(cluster, id)) == 3


def test_a_disk_that_is_full(cluster):
    """The ids of chunks do not fit; it is refused like anything else."""
    cluster.run(cluster.upload(0, BODY))
    named = NamedChunks()
    named.close()
    with pytest.raises(Unavailable, match="cannot note the chunks"):
        named.add(ID, CHUNKS)


def test_an_uploader_whose_clock_is_far_behind():
    """It goes by the time of the servers, once it has asked them."""
    cluster = Cluster([0, -8 * 86_400])
    for server in cluster.servers:
        status = server.status

        async def timed(status=status):
            return evolve(await status(), time=cluster.time)

        server.status = timed
    cluster.run(cluster.doors[1][0].look())
    writer = cluster.doors[1][1].writer()
    cluster.run(writer.write(BODY))
    assert collected(cluster).copies == 0
    cluster.run(writer.commit())
    assert cluster.fetch(0, ID) == BODY


class TestExpired:
    """Objects that have expired."""

    @pytest.mark.parametrize("body", [BODY, BODY[:50]])
    def test_they_go_and_then_their_chunks(self, cluster, body):
        """Minutes after their end, without a tombstone."""
        id = content_id(body)
        cluster.run(cluster.upload(0, body, cluster.time + 1000))
        cluster.wait(1000 + 299)
        assert cluster.fetch(0, id) is None
        assert (collected(cluster).expired, len(held(cluster, id))) == (0, 2)
        cluster.wait(5)
        planned = collected(cluster, dry_run=True)
        assert (planned.objects, planned.expired, planned.copies) == (0, 1, 0)
        summary = collected(cluster)
        assert (summary.objects, summary.expired, summary.copies) == (0, 1, 2)
        assert held(cluster, id) == []
        cluster.wait(GRACE)
        collected(cluster)
        assert all(server.blobs == {} for server in cluster.servers)

    def test_one_server_knows_of_a_later_upload(self, cluster):
        """Then it stays on all."""
        cluster.run(cluster.upload(0, BODY, cluster.time + 1000))
        holder = next(server for server in cluster.servers if ID in server.blobs)
        found = holder.blobs[ID].info.metadata
        later = {STORED_AT: str(int(found[STORED_AT]) + 1), MARK: found[MARK]}
        cluster.run(holder.reconcile(ID, later))
        cluster.wait(GRACE)
        assert collected(cluster).expired == 0
        assert len(held(cluster, ID)) == 2

    def test_what_is_a_chunk_of_another_object_stays(self, cluster):
        """Its bytes, not the object."""
        cluster.run(cluster.upload(0, BODY[:CHUNK], cluster.time + 1000))
        cluster.run(cluster.upload(0, BODY))
        cluster.wait(2 * GRACE)
        assert collected(cluster).expired == 0
        assert cluster.fetch(0, ID) == BODY
        assert cluster.fetch(0, CHUNKS[0]) is None

    def test_the_chunk_of_an_upload_under_way_stays(self, cluster):
        """Its manifest does not name it yet."""
        chunk = BODY[:CHUNK]
        cluster.run(cluster.upload(0, chunk, cluster.time + 1000))
        cluster.wait(GRACE)
        cluster.run(cluster.break_off(0, BODY))
        assert collected(cluster).expired == 0
        assert len(held(cluster, CHUNKS[0])) == 2
        cluster.wait(GRACE + 1)
        collected(cluster)
        assert held(cluster, CHUNKS[0]) == []

    def test_it_is_stored_again_while_it_is_collected(self, cluster):
        """An upload for ever wins, wherever it crosses the collection."""
        for steps in range(0, 200, 7):
            cluster.run(cluster.upload(0, BODY, cluster.time + 10))
            cluster.wait(400)
            cluster.begin(cluster.collect())
            for _ in range(steps):
                cluster.step(0)
            cluster.begin(cluster.upload(0, BODY))
            cluster.finish()
            assert cluster.fetch(0, ID) == BODY, steps
            cluster.run(cluster.delete(0, ID))
            cluster.rest()
