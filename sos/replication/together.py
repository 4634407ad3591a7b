"""Several coroutines at once."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import FirstError, ensureDeferred, gatherResults

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of *work* at once; the first error, or a cancellation, ends all of it."""
    begun = [ensureDeferred(each) for each in work]
    try:
        return await gatherResults(begun, consumeErrors=True)
    except FirstError as error:
        for each in begun:
            each.cancel()
        error.subFailure.raiseException()
