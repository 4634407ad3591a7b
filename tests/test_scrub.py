"""The scrub: how it goes on, how fast, and what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Quarantined, Unavailable
from sos.scrub import Report, ScrubService, load, save, scrub
from sos.stores.memory import MemoryStore
from tests.support.blobs import body_of, content_id, put

DAY = 24 * 3600.0


class Rotten(MemoryStore):
    """Some of its blobs have gone bad, some are on a bad spot of the disk."""

    def __init__(self):
        super().__init__()
        self.damaged: set[str] = set()
        self.unreadable: set[str] = set()
        self.read_ids: list[str] = []

    async def read(self, id, span=None):
        self.read_ids.append(id)
        if id in self.damaged:
            del self.blobs[id]
            raise Quarantined(id, "its hash is another")
        if id in self.unreadable:
            raise Unavailable("input/output error")
        return await super().read(id, span)


async def filled(store, count=20, size=10):
    return [(await put(store, body_of(size, seed=n))).id for n in range(count)]


def whole_pass(store, report=None, rate=0, now=lambda: 1000.0):
    """Make a pass with a clock that turns by itself."""
    report, clock, warnings = report or Report(), Clock(), []
    done = deferred(scrub(store, report, clock, rate, now, warn=warnings.append))
    while not done.called:
        clock.advance(0.01)
    return report, clock, warnings, done


@ensureDeferred
async def test_everything_is_read():
    """Once each, and counted."""
    store = Rotten()
    ids = await filled(store, 20, 100_000)
    report, _, warnings, done = whole_pass(store)
    await done
    assert sorted(store.read_ids) == sorted(ids)
    assert (report.checked, report.bytes, report.ok) == (20, 2_000_000, True)
    assert (report.position, report.finished_at) == (None, 1000.0)
    assert warnings == []


@ensureDeferred
async def test_what_is_not_well_is_told():
    """Each by its id; the pass goes on."""
    store = Rotten()
    ids = await filled(store)
    store.damaged, store.unreadable = set(ids[:3]), {ids[3]}
    report, _, warnings, done = whole_pass(store)
    await done
    assert (report.checked, report.damaged, report.unreadable, report.ok) == (20, 3, 1, False)
    assert sorted(line[:40] for line in warnings) == sorted(ids[:4])
    assert sum("its hash is another" in line for line in warnings) == 3


@ensureDeferred
async def test_what_was_dropped_since_it_was_listed_is_no_damage():
    """It has been moved to where it belongs, maybe."""
    store = Rotten()
    ids = await filled(store)
    first, *_ = await store.listing()

    async def read(id, span=None):
        for dropped in {*ids} & {*store.blobs} - {first}:
            del store.blobs[dropped]
        return await MemoryStore.read(store, id, span)

    store.read = read
    report, _, warnings, done = whole_pass(store)
    await done
    assert (report.checked, report.damaged, report.unreadable, report.ok) == (20, 0, 0, True)
    assert warnings == []


@ensureDeferred
async def test_a_pass_goes_on_from_where_it_was():
    """With what it had found until then."""
    store = Rotten()
    await filled(store)
    order = await store.listing()
    report = Report(position=order[9], checked=10, damaged=2)
    _, _, _, done = whole_pass(store, report)
    await done
    assert store.read_ids == order[10:]
    assert (report.checked, report.damaged) == (20, 2)


@ensureDeferred
async def test_a_new_pass_begins_with_nothing_found():
    """The last one's findings are its own."""
    report = Report(finished_at=5.0, checked=10, damaged=2)
    _, _, _, done = whole_pass(MemoryStore(), report)
    await done
    assert (report.checked, report.damaged, report.finished_at) == (0, 0, 1000.0)


@pytest.mark.parametrize(("count", "size"), [(10, 1_000_000), (100, 60_000), (100, 10)])
@ensureDeferred
async def test_the_rate_is_kept(count, size):
    """Each body counts, and 16 KiB for each blob."""
    store = MemoryStore()
    await filled(store, count, size)
    _, clock, _, done = whole_pass(store, rate=1_000_000)
    await done
    assert clock.seconds() == pytest.approx(count * (size + 16384) / 1e6, rel=0.1)


def test_a_report_outlives_the_process(tmp_path):
    """It is read as it was written."""
    report = Report("abc", 1.0, 2.0, 3, 4, 5, 6)
    save(report, tmp_path / "scrub.json")
    assert load(tmp_path / "scrub.json") == report
    assert load(tmp_path / "none.json") == Report()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"checked": "1"}', '{"other": 1}', '{"position": "A/"}', '{"started_at": []}'],
)
def test_a_report_that_is_none_is_passed_over(tmp_path, text):
    """A new pass begins."""
    (tmp_path / "scrub.json").write_text(text)
    assert load(tmp_path / "scrub.json") == Report()


@ensureDeferred
async def test_damage_on_the_disk_is_found(local_store, reactor):
    """A flipped bit in a large body: found, set aside, told."""
    sound, bad = body_of(300_000), body_of(300_000, seed=1)
    for body in (sound, bad):
        await put(local_store, body)
    id = content_id(bad)
    path = local_store._layout.body(id)
    path.write_bytes(bad[:1000] + bytes([bad[1000] ^ 4]) + bad[1001:])
    report, warnings = Report(), []
    await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0, warn=warnings.append)
    assert (report.checked, report.damaged) == (2, 1)
    assert id in warnings[0]
    assert await local_store.listing() == [content_id(sound)]


class TestService:
    @pytest.fixture
    def clock(self):
        return Clock()

    def service(self, store, path, clock):
        return ScrubService(lambda: store, Path(path), 10_000_000, 7 * DAY, clock, clock.seconds)

    @ensureDeferred
    async def test_a_pass_every_week(self, clock, tmp_path):
        """The first soon after the start, when there has been none."""
        store = Rotten()
        await filled(store)
        service = self.service(store, tmp_path / "scrub.json", clock)
        service.startService()
        clock.pump([1.0] * 100)
        assert len(store.read_ids) == 20
        clock.advance(6 * DAY)
        clock.pump([1.0] * 100)
        assert len(store.read_ids) == 20
        clock.advance(1 * DAY)
        clock.pump([1.0] * 100)
        assert len(store.read_ids) == 40
        assert json.loads((tmp_path / "scrub.json").read_text())["checked"] == 20
        await service.stopService()
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_a_restart_goes_on(self, clock, tmp_path):
        """What was read is not read again, but for a part of a page."""
        store = Rotten()
        await filled(store, 300, 100_000)
        for _ in range(6):
            service = self.service(store, tmp_path / "scrub.json", clock)
            service.startService()
            clock.pump([0.05] * 1212)
            await service.stopService()
        assert set(store.read_ids) == set(store.blobs)
        assert 300 < len(store.read_ids) < 300 + 6 * 64

    @ensureDeferred
    async def test_a_restart_after_a_pass_waits_for_the_next(self, clock, tmp_path):
        """It does not begin anew with each start of the daemon."""
        save(Report(finished_at=clock.seconds()), tmp_path / "scrub.json")
        store = Rotten()
        await filled(store)
        service = self.service(store, tmp_path / "scrub.json", clock)
        service.startService()
        clock.pump([60.0] * 100)
        assert store.read_ids == []
        await service.stopService()

    @ensureDeferred
    async def test_a_pass_that_ended_in_the_future_is_no_reason_to_wait(self, clock, tmp_path):
        """The clock was wrong then, and the next pass would be years away."""
        ten_years = 10 * 365 * 86400.0
        save(Report(finished_at=clock.seconds() + ten_years), tmp_path / "scrub.json")
        store = Rotten()
        await filled(store)
        service = self.service(store, tmp_path / "scrub.json", clock)
        service.startService()
        clock.pump([60.0] * 100)
        assert set(store.read_ids) == set(store.blobs)
        await service.stopService()
        assert load(tmp_path / "scrub.json").finished_at <= clock.seconds()
