"""Puts and gets on one store, in a process of its own, whose memory is told as well."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred, gatherResults

from benchmarks.processes import Process
from sos.cli.reactor import run
from sos.interfaces import IBlobStore, IReplicaStore
from sos.model import ids
from sos.stores.factories import factory, scheme_of
from sos.stores.local import LocalStore

# Bytes of bodies that are put in one step at most: what is quick has to fit into memory too.
_MOST_BYTES = 256 << 20
# Bytes of a body that are handed over at once, as a request would.
_PIECE = 64 << 10


async def exercise(
    store: IReplicaStore, sizes: Sequence[int], concurrencies: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """Return the figures of puts, then of gets, of each size, so many at once.

    :param seconds: that each step goes on for, unless there is too much to put.
    """
    steps = []
    numbers = count()
    for size in sizes:
        stored: list[str] = []
        for concurrency in concurrencies:
            fresh = islice(numbers, _MOST_BYTES // size)
            put = partial(_put, store, size, stored)
            figures = await _timed(put, fresh, concurrency, seconds)
            steps.append({"direction": "put", "size": size, "at_once": concurrency, **figures})
        for concurrency in concurrencies:
            figures = await _timed(partial(_get, store), cycle(stored), concurrency, seconds)
            steps.append({"direction": "get", "size": size, "at_once": concurrency, **figures})
    return steps


def quantile(sorted_values: Sequence[float], part: float) -> float:
    """Return the value below which lies that *part* of all, which are sorted."""
    return sorted_values[min(len(sorted_values) - 1, int(part * len(sorted_values)))]


async def _timed(
    work: Callable[[Any], Awaitable[None]], items: Iterator[Any], concurrency: int, seconds: float
) -> dict[str, Any]:
    taken: list[float] = []
    begun = time.perf_counter()

    async def worker() -> None:
        for item in items:
            before = time.perf_counter()
            await work(item)
            after = time.perf_counter()
            taken.append(after - before)
            if after - begun >= seconds:
                return

    await gatherResults([ensureDeferred(worker()) for _ in range(concurrency)])
    elapsed = time.perf_counter() - begun
    taken.sort()
    return {
        "per_second": len(taken) / elapsed,
        "p50_seconds": quantile(taken, 0.5),
        "p99_seconds": quantile(taken, 0.99),
    }


async def _put(store: IBlobStore, size: int, stored: list[str], number: int) -> None:
    body = (b"%016d" % number).ljust(size, b"x")
    writer = store.writer(size=size)
    for start in range(0, size, _PIECE):
        await writer.write(body[start : start + _PIECE])
    stored.append((await writer.commit()).id)


async def _get(store: IBlobStore, id: str) -> None:
    blob = await store.read(id)
    if not isinstance(blob.body, bytes):
        async with aclosing(blob.body):
            async for _ in blob.body:
                pass


async def _opened(place: str, reactor: Any) -> Any:
    scheme = scheme_of(place)
    if scheme is None:
        store = LocalStore(Path(place), reactor)
        store.open()
        return store
    engine = factory(scheme).make(place, ids.DEFAULT_ALGORITHM, reactor)
    await engine.open()
    return engine


async def _main(task: dict[str, Any], reactor: Any) -> dict[str, Any]:
    store = await _opened(task.pop("place"), reactor)
    try:
        steps = await exercise(store, **task)
    finally:
        await store.close()
    return {"steps": steps, "peak_bytes": Process("client", os.getpid()).peak_memory()}


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(run(lambda reactor: _main(task, reactor))))
