"""``python -m benchmarks replicate``: passes over two blob servers, in sync and after a loss."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import click
from twisted.internet.defer import ensureDeferred, gatherResults

from benchmarks import tables
from benchmarks.disk import syncs_per_second
from benchmarks.processes import free_urls
from benchmarks.servers import start_blob_server
from benchmarks.store import BODY, fill
from sos.cli.reactor import run
from sos.http.client.agent import Agent
from sos.interfaces import Groups
from sos.model import conf_parser, ids
from sos.replication import Policy, Report, Summary
from sos.replication import replicate as replicate_groups
from sos.replication.pass_state import PassState
from sos.stores.local import LocalStore
from sos.tap import cluster

#: Requests at once, one after the other as the original system makes them, and more.
CONCURRENCIES = (1, 16)

#: Seconds that a pass in sync may take, and copies a second that a repair has to make.
IN_SYNC_TARGET = 0.5
REPAIR_TARGET = 2000

# Objects that are asked for one by one, at most; more would take as much longer.
_MOST_HEADS = 20_000
_FILLING = 256

T = TypeVar("T")


@click.command()
@click.option(
    "--objects", default="1000,20000,1000000", show_default=True, help="On two servers in sync."
)
@click.option("--repair", default=20_000, show_default=True, help="On one server, none on another.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Passes.")
@click.option("--dir", "place", type=click.Path(path_type=Path), help="Where to store them.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def replicate(
    objects: str, repair: int, rounds: int, place: Path | None, output: Path | None
) -> None:
    """Passes that find nothing to do, and one that makes the copies of a lost server."""
    sizes = sorted(int(text) for text in objects.split(","))
    with tempfile.TemporaryDirectory(dir=place, prefix="sos-benchmark-") as made:
        directory = Path(made).absolute()
        results: dict[str, Any] = {"syncs": syncs_per_second(directory / "syncs"), "body": BODY}
        results |= run(lambda reactor: _measure(directory, reactor, sizes, repair, rounds))
    _show(results)
    tables.save(results, output)


async def _measure(
    directory: Path, reactor: Any, sizes: Sequence[int], repair: int, rounds: int
) -> dict[str, Any]:
    in_sync = []
    held = 0
    for size in sizes:
        names = ("first", "second")  # a copy of the first would be the same store, by its id
        for name in names:
            await _fill(directory / name / "data", reactor, range(held, size))
        held = size
        async with _serving(directory, names, reactor) as groups:
            in_sync.append(await _in_sync(groups, reactor, size, rounds))
    await _fill(directory / "whole" / "data", reactor, range(repair))
    async with _serving(directory, ("whole", "empty"), reactor) as groups:
        summary, seconds = await _pass(groups, reactor)
    if not (summary.ok and summary.copied == repair):
        raise click.ClickException(f"it was not repaired: {summary}")
    return {
        "in_sync": in_sync,
        "repair": {"objects": repair, "seconds": seconds, "copies_per_second": repair / seconds},
    }


async def _fill(directory: Path, reactor: Any, numbers: range) -> None:
    """Put a small object for each of *numbers* into the store *directory*."""
    directory.parent.mkdir(exist_ok=True)
    opened = LocalStore(directory, reactor)
    opened.open()
    try:
        await fill(opened, iter(numbers), _FILLING)
    finally:
        await opened.close()


@contextlib.asynccontextmanager
async def _serving(directory: Path, names: Sequence[str], reactor: Any) -> Any:
    """Run a blob server over each of the stores; gives them as a group."""
    urls = free_urls(len(names))
    agent = Agent(reactor)
    with contextlib.ExitStack() as stack:
        for name, url in zip(names, urls, strict=True):
            start_blob_server(name, directory / name, url, stack)
        try:
            found = conf_parser.from_urls(",".join(urls), "the benchmark")
            yield cluster.remote_groups(found, reactor, ids.DEFAULT_ALGORITHM, agent)
        finally:
            await agent.close()


async def _in_sync(groups: Groups, reactor: Any, size: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of passes, and of a HEAD for each object in their place."""
    passes = []
    state = PassState()
    for _ in range(rounds + 1):
        summary, seconds = await _pass(groups, reactor, state)
        if not (summary.idle and summary.blobs == size):
            raise click.ClickException(f"the servers were not in sync: {summary}")
        passes.append(seconds)
    ((first, second),) = groups.values()
    listed, listing = await _timed(first.store.listing())
    some = listed[:_MOST_HEADS]
    heads = {}
    for concurrency in CONCURRENCIES:
        _, heads[str(concurrency)] = await _timed(_each(some, second.store.stat, concurrency))
    return figures(passes, listing, heads, len(some), size)


def figures(
    passes: list[float], listing: float, heads: dict[str, float], asked: int, size: int
) -> dict[str, Any]:
    """Return the figures of passes over *size* objects, and of a HEAD for each in their place.

    :param passes: what each took, in seconds, the first of them without what
        a service knows from one pass to the next.
    :param listing: the same of listing all objects.
    :param heads: the same of asking for some of them, by how many at once.
    :param asked: for how many.
    """
    asking = {name: listing + seconds * size / asked for name, seconds in heads.items()}
    first, *others = passes
    usual = median(others)
    return {
        "objects": size,
        "first_seconds": first,
        "median_seconds": usual,
        "passes": passes,
        "heads_asked": asked,
        "heads_seconds": asking,
        "ratios": {name: seconds / usual for name, seconds in asking.items()},
    }


async def _pass(
    groups: Groups, reactor: Any, state: PassState | None = None
) -> tuple[Summary, float]:
    policy = Policy(min_copies=2)
    return await _timed(replicate_groups(groups, policy, reactor, Report(), state))


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    """Return what *work* returns, and its seconds."""
    begun = time.perf_counter()
    result = await work
    return result, time.perf_counter() - begun


async def _each(
    wanted: Sequence[str], ask: Callable[[str], Awaitable[Any]], concurrency: int
) -> None:
    remaining: Iterator[str] = iter(wanted)

    async def worker() -> None:
        for id in remaining:
            await ask(id)

    await gatherResults([ensureDeferred(worker()) for _ in range(concurrency)])


def _show(results: dict[str, Any]) -> None:
    columns = ["objects", "first s", "then s", "target"]
    for concurrency in CONCURRENCIES:
        columns += [f"HEAD x {concurrency} s", "/ pass"]
    cells = []
    for row in results["in_sync"]:
        times = [f"{row[name]:.3f}" for name in ("first_seconds", "median_seconds")]
        heads: list[str] = []
        for concurrency in map(str, CONCURRENCIES):
            heads += [
                f"{row['heads_seconds'][concurrency]:,.1f}",
                f"{row['ratios'][concurrency]:,.0f}",
            ]
        cells.append([f"{row['objects']:,}", *times, f"<= {IN_SYNC_TARGET}", *heads])
    title = "A pass in sync; in its place a listing and a HEAD for each object"
    tables.show(title, columns, cells)
    repair = results["repair"]
    rate = round(repair["copies_per_second"])
    cells = [[f"{repair['objects']:,}", f"{repair['seconds']:.2f}", rate, f">= {REPAIR_TARGET:,}"]]
    tables.show(
        f"Repair: {BODY} bytes each",
        ("objects", "seconds", "copies/s", "target"),
        cells,
    )
    click.echo(f"(one fdatasync after another on this disk: {results['syncs']:,}/s)")
