"""A power cut at any point of an upload: what was not synced is lost, or is not."""

from __future__ import annotations

import shutil
from random import Random

from pytest_twisted import ensureDeferred

from tests.support.blobs import body_of, content, content_id
from tests.system.crash.directories import opened
from tests.system.crash.disk_model import STRACE, DiskModel, calls
from tests.system.crash.test_kill import FEW_SIZES, SIZES
from tests.system.crash.tracing import needs_strace, run

pytestmark = needs_strace


@ensureDeferred
async def test_the_power_goes_at_any_point(tmp_path, reactor, long, capsys):
    """From the making of the store on, what was acknowledged is there and nothing is torn."""
    cuts = kept = 0
    for size in SIZES if long else FEW_SIZES:
        sizes = [size, size + 1]
        bodies = {content_id(b): b for n, s in enumerate(sizes) for b in [body_of(s, seed=n)]}
        root, log = tmp_path / f"store{size}", tmp_path / "log"
        root.mkdir()
        outcome = run(root, sizes, *STRACE, when="before", log=log)
        assert len(outcome.acknowledged) == 2
        disk, acknowledged, random = DiskModel(str(root)), [], Random(size)
        for call in calls(log):
            if call.name == "write" and call.strings[0].startswith(b"ACK "):
                acknowledged.append(call.strings[0].split()[1].decode())
            elif not disk.follow(call) or call.name in ("lseek", "close"):
                continue
            for chance in (None, random, random) if long else (None, random):
                target = tmp_path / "left"
                disk.leave(target, chance)
                kept += await look(target, acknowledged, bodies, reactor)
                shutil.rmtree(target)
                cuts += 1
        assert len(acknowledged) == 2
    with capsys.disabled():
        print(f"\npower cut at {cuts} points: {kept} acknowledged blobs looked for, 0 lost, 0 torn")


async def look(target, acknowledged, bodies, reactor) -> int:
    async with opened(target, reactor, durable=False) as store:
        listed = await store.listing()
        assert set(acknowledged) <= set(listed)
        for id in listed:
            assert await content(await store.read(id)) == bodies[id]
        assert list((target / "incoming").iterdir()) == []
    return len(acknowledged)
