"""A body that leaves its place, when that is broken off at each of its system calls."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from pytest_twisted import ensureDeferred

from sos.model.digest import PartitionDigest, record_sum
from sos.model.ids import partition
from sos.model.metadata import encode
from tests.support.blobs import content, content_id, put
from tests.system.crash.directories import opened
from tests.system.crash.disk_model import STRACE, DiskModel, calls
from tests.system.crash.test_kill import ERRORS, sample
from tests.system.crash.tracing import calls_of, needs_strace, run
from tests.system.crash.victim import HELD, LEAVING, MANIFEST, OBJECT

pytestmark = needs_strace

ACTIONS = ["drop", "replace"]


async def check(directory: Path, lines: list[str], reactor, durable: bool = True) -> None:
    """Open what is left: each blob is there or dropped, and none is torn."""
    async with opened(directory, reactor, durable=durable) as store:
        possible = {
            content_id(HELD): [HELD],
            content_id(LEAVING): [LEAVING],
            content_id(OBJECT): [OBJECT] if _has_line(lines, "ACK") else [OBJECT, MANIFEST[1]],
        }
        listed = await store.listing()
        left = set(possible) - set(listed)
        assert left <= {content_id(LEAVING)}, "lost"
        assert left or not _has_line(lines, "GONE"), "it came back"
        digests: dict[str, PartitionDigest] = {}
        for id in listed:
            blob = await store.read(id)
            assert await content(blob) in possible[id], f"torn: {id}"
            before = digests.get(partition(id), PartitionDigest())
            sum = record_sum(id, encode(blob.info.metadata), b"")
            digests[partition(id)] = before.with_blob(blob.info.size, sum)
        assert await store.digests() == digests
        assert list((directory / "incoming").iterdir()) == []
        files = {path.name for path in (directory / "bodies").rglob("*") if path.is_file()}
        assert files <= set(listed), "a file without a record is left over"
        for body in (LEAVING, OBJECT):
            assert await content(await store.read((await put(store, body)).id)) == body


def _has_line(lines: list[str], word: str) -> bool:
    return any(line.startswith(word) for line in lines)


@ensureDeferred
async def test_killed_at_every_call(tmp_path, reactor, long, capsys):
    """What was not to be dropped is there, whole, and nothing is left over."""
    cases = sample(calls_of(tmp_path / "store", ACTIONS), long, few=12)
    for call, number in cases:
        directory = tmp_path / f"{call}-{number}"
        inject = f"inject={call}:signal=KILL:when={number}"
        outcome = run(directory, ACTIONS, "-e", f"trace={call}", "-e", inject)
        await check(directory, outcome.lines, reactor)
    with capsys.disabled():
        print(f"\nkilled at {len(cases)} system calls of a drop and a replacement: 0 lost, 0 torn")


@ensureDeferred
async def test_refused_at_every_call(tmp_path, reactor, long, capsys):
    """An error of the disk loses nothing either."""
    found = calls_of(tmp_path / "store", ACTIONS)
    cases = [(call, n, error) for call, n in found for error in ERRORS.get(call, [])]
    refused = 0
    for call, number, error in sample(cases, long, few=12):
        directory = tmp_path / f"{call}-{number}-{error}"
        inject = f"inject={call}:error={error}:when={number}"
        outcome = run(directory, ACTIONS, "-e", f"trace={call}", "-e", inject)
        assert "READ" in outcome.lines, (call, number, error, outcome)
        await check(directory, outcome.lines, reactor)
        refused += len(outcome.errors)
    with capsys.disabled():
        print(f"\nrefused at system calls of a drop and a replacement: {refused} errors told")
    assert refused > 0


@ensureDeferred
async def test_the_power_goes_at_any_point(tmp_path, reactor, long, capsys):
    """What was done is done, and what was not is whole."""
    root, log = tmp_path / "store", tmp_path / "log"
    root.mkdir()
    outcome = run(root, ["prepare", *ACTIONS], *STRACE, when="before", log=log)
    assert len(outcome.acknowledged) == len(outcome.gone) == 1
    disk, lines, random = DiskModel(str(root)), [], Random(1)
    cuts = 0
    for call in calls(log):
        if call.name == "write" and call.strings[0].startswith((b"ACK ", b"GONE ", b"PREPARED")):
            lines.append(call.strings[0].decode())
        elif not disk.follow(call) or call.name in ("lseek", "close"):
            continue
        if lines:
            for chance in (None, random, random) if long else (None, random):
                target = tmp_path / "left"
                disk.leave(target, chance)
                await check(target, lines, reactor, durable=False)
                shutil.rmtree(target)
                cuts += 1
    with capsys.disabled():
        print(f"\npower cut at {cuts} points of a drop and a replacement: 0 lost, 0 torn")
