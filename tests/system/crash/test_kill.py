"""An upload that is killed, or refused by the disk, at each of its system calls."""

from __future__ import annotations

from pathlib import Path

from pytest_twisted import ensureDeferred

from sos.model.digest import PartitionDigest, record_sum
from sos.model.ids import partition
from sos.model.metadata import encode
from tests.support.blobs import body_of, content, content_id, put
from tests.system.crash.directories import opened
from tests.system.crash.tracing import Outcome, calls_of, needs_strace, run
from tests.system.crash.victim import HELD

pytestmark = needs_strace

KIB = 1024
SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 1024 * KIB, 9 * 1024 * KIB]
#: Sizes that between them make every system call that any of those makes.
FEW_SIZES = [1, 64 * KIB + 1]

#: What a disk answers, by the call that it answers.
ERRORS = {
    "openat": ["EMFILE", "ENOSPC", "EROFS", "EIO"],
    "writev": ["ENOSPC", "EIO"],
    "pwrite64": ["ENOSPC", "EDQUOT", "EIO"],
    "mkdir": ["ENOSPC", "EROFS", "EIO"],
    "link": ["ENOSPC", "EROFS", "EIO", "EMLINK"],
    "fsync": ["EIO", "ENOSPC", "EDQUOT"],
    "fdatasync": ["EIO", "ENOSPC"],
    "unlink": ["EIO", "EROFS"],
    "statfs": ["EIO"],
}


def sample(cases: list, long: bool, few: int) -> list:
    """Return all cases, or in the short form some that are spread over them."""
    return cases if long else cases[:: max(1, len(cases) // few)]


async def check(directory: Path, outcome: Outcome, sizes: list[int], reactor) -> None:
    """Open what is left, and look at every promise."""
    async with opened(directory, reactor) as store:
        listed = await store.listing()
        assert set(outcome.acknowledged) <= set(listed), f"lost: {outcome}"
        possible = {
            content_id(body): body for n, s in enumerate(sizes) for body in [body_of(s, seed=n)]
        }
        possible[content_id(HELD)] = HELD
        digests: dict[str, PartitionDigest] = {}
        for id in listed:
            blob = await store.read(id)
            assert await content(blob) == possible[id], f"torn: {id}"
            before = digests.get(partition(id), PartitionDigest())
            sum = record_sum(id, encode(blob.info.metadata), b"")
            digests[partition(id)] = before.with_blob(blob.info.size, sum)
        assert await store.digests() == digests
        assert list((directory / "incoming").iterdir()) == []
        files = {path.name for path in (directory / "bodies").rglob("*") if path.is_file()}
        assert files <= set(listed), "a file without a record is left over"
        for body in possible.values():
            assert await content(await store.read((await put(store, body)).id)) == body


@ensureDeferred
async def test_killed_at_every_call(tmp_path, reactor, long, capsys):
    """What was acknowledged is there; nothing is torn, nothing is left over."""
    done = acknowledged = 0
    for size in SIZES if long else FEW_SIZES:
        for when in ("after", "before") if long or size == 1 else ("after",):
            sizes = [size, size + 1]
            cases = calls_of(tmp_path / f"{size}-{when}", sizes, when)
            for call, number in sample(cases, long, few=6):
                directory = tmp_path / f"{size}-{when}-{call}-{number}"
                inject = f"inject={call}:signal=KILL:when={number}"
                outcome = run(directory, sizes, "-e", f"trace={call}", "-e", inject, when=when)
                await check(directory, outcome, sizes, reactor)
                done += 1
                acknowledged += len(outcome.acknowledged)
    with capsys.disabled():
        print(f"\nkilled at {done} system calls: {acknowledged} acknowledged, 0 lost, 0 torn")
    assert acknowledged > 0


@ensureDeferred
async def test_refused_at_every_call(tmp_path, reactor, long, capsys):
    """No error of the disk is hidden, and after a failed sync nothing is taken."""
    done = refused = 0
    for size in SIZES if long else FEW_SIZES:
        sizes = [size, size + 1]
        calls = calls_of(tmp_path / f"{size}", sizes)
        cases = [(call, n, error) for call, n in calls for error in ERRORS.get(call, [])]
        for call, number, error in sample(cases, long, few=8):
            directory = tmp_path / f"{size}-{call}-{number}-{error}"
            inject = f"inject={call}:error={error}:when={number}"
            outcome = run(directory, sizes, "-e", f"trace={call}", "-e", inject)
            case = f"{size} bytes, {call} {number} {error}: {outcome}"
            assert "WRONG" not in outcome.lines, case
            assert "READ" in outcome.lines, case
            if call in ("fsync", "fdatasync") and error == "EIO" and outcome.errors:
                assert "ACK" not in "".join(outcome.lines).partition("ERR")[2], case
                assert "READONLY" in outcome.lines, case
            await check(directory, outcome, sizes, reactor)
            done += 1
            refused += len(outcome.errors)
    with capsys.disabled():
        print(f"\nrefused at {done} system calls: {refused} uploads failed, 0 acknowledged falsely")
    assert refused > 0
