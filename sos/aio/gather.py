"""Coroutines that run concurrently, or with a timeout."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults

from sos.errors import Unavailable

S = TypeVar("S")
T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of *work* concurrently; cancel all at the first error or a cancellation."""
    begun = [ensureDeferred(each) for each in work]
    try:
        return await gatherResults(begun, consumeErrors=True)
    except FirstError as error:
        for each in begun:
            each.cancel()
        error.subFailure.raiseException()


async def for_each(
    items: Iterable[S], work: Callable[[S], Coroutine[Any, Any, object]], parallel: int
) -> None:
    """Run *work* for each of *items*, up to *parallel* at once; the first error ends all."""
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await work(item)

    await together(worker() for _ in range(parallel))


async def within(seconds: float, work: Coroutine[Any, Any, T], clock: Any) -> T:
    """Return the result of *work*, or cancel it and raise Unavailable after *seconds*."""
    deferred: Deferred[T] = ensureDeferred(work)

    def late(result: Any, timeout: float) -> NoReturn:
        raise Unavailable(f"timed out after {timeout:.0f} s")

    return await deferred.addTimeout(seconds, clock, late)
