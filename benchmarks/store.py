"""``python -m benchmarks store``: the local store by itself, without HTTP."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import ensureDeferred, gatherResults

from benchmarks import tables
from benchmarks.disk import syncs_per_second
from sos.cli.reactor import run
from sos.stores.local import LocalStore

BODY = 1024
CONCURRENCIES = (1, 8, 32, 128)
_SECONDS = 4.0
_READS = 50_000


@click.command()
@click.option("--blobs", default="10000,100000,1000000", show_default=True, help="Store sizes.")
@click.option("--dir", "place", type=click.Path(path_type=Path), help="Where to store them.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def store(blobs: str, place: Path | None, output: Path | None) -> None:
    """Durable puts, gets, listing, digests, time to ready, memory."""
    sizes = [int(text) for text in blobs.split(",")]
    with tempfile.TemporaryDirectory(dir=place, prefix="sos-benchmark-") as made:
        directory = Path(made)
        results: dict[str, Any] = {"syncs": syncs_per_second(directory / "syncs"), "body": BODY}
        results |= run(lambda reactor: _measure(directory, reactor, sizes))
    columns = ["uploads at once", "durable puts/s"]
    tables.show(f"Puts of {BODY} bytes", columns, list(results["puts"].items()))
    click.echo(f"(one fdatasync after another on this disk: {results['syncs']:,}/s)\n")
    columns = ["blobs", "gets/s", "listing s", "digests s", "ready s", "resident MiB"]
    tables.show("By the number of blobs", columns, results["sizes"])
    tables.save(results, output)


async def _measure(directory: Path, reactor: Any, sizes: list[int]) -> dict[str, Any]:
    return {
        "puts": await _puts(directory, reactor),
        "sizes": await _sizes(directory / "store", reactor, sizes),
    }


async def _puts(directory: Path, reactor: Any) -> dict[str, int]:
    """Return the puts a second into a new store, by how many are under way at once."""
    rates = {}
    for concurrency in CONCURRENCIES:
        opened = LocalStore(directory / f"puts-{concurrency}", reactor)
        opened.open()
        until = time.perf_counter() + _SECONDS
        timed = itertools.takewhile(
            lambda _, until=until: time.perf_counter() < until, itertools.count()
        )
        begun = time.perf_counter()
        count = await fill(opened, timed, concurrency)
        rates[str(concurrency)] = round(count / (time.perf_counter() - begun))
        await opened.close()
    return rates


async def _sizes(directory: Path, reactor: Any, sizes: list[int]) -> list[list[Any]]:
    """Return a row of figures for each number of blobs."""
    opened = LocalStore(directory, reactor)
    opened.open()
    rows = []
    held = 0
    for size in sizes:
        await fill(opened, iter(range(held, size)), 256)
        held = size
        read = await _reading(opened)
        await opened.close()
        rows.append([held, *read, *_ready(directory)])
        opened.open()
    await opened.close()
    return rows


async def fill(opened: LocalStore, numbers: Iterator[int], concurrency: int) -> int:
    """Put a body for each of *numbers*, so many at once; return how many there were."""
    count = 0

    async def worker() -> None:
        nonlocal count
        for number in numbers:
            writer = opened.writer(size=BODY)
            await writer.write(b"%016d" % number * (BODY // 16))
            await writer.commit()
            count += 1

    await gatherResults([ensureDeferred(worker()) for _ in range(concurrency)])
    return count


async def _reading(opened: LocalStore) -> list[Any]:
    begun = time.perf_counter()
    page = await opened.listing(limit=_READS)
    ids = list(page)
    while page:
        page = await opened.listing(after=page[-1], limit=10_000)
    listing = time.perf_counter() - begun
    begun = time.perf_counter()
    await opened.digests()
    digests = time.perf_counter() - begun
    begun = time.perf_counter()
    for id in ids:
        await opened.read(id)
    gets = len(ids) / (time.perf_counter() - begun)
    return [round(gets), f"{listing:.2f}", f"{digests:.3f}"]


def _ready(directory: Path) -> list[str]:
    """Open the store in a process of its own; return seconds and MiB."""
    child = [sys.executable, "-m", "benchmarks.store", str(directory)]
    return subprocess.run(child, check=True, capture_output=True, text=True).stdout.split()


def _open_and_tell(directory: str) -> None:
    from twisted.internet import reactor

    opened = LocalStore(Path(directory), reactor)
    begun = time.perf_counter()
    opened.open()
    ready = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(f"{ready:.3f} {resident:.0f}")
    os._exit(0)  # its threads are of no use any more


if __name__ == "__main__":
    _open_and_tell(sys.argv[1])
