"""Work on many things, a few of them at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from sos.aio.gather import together

T = TypeVar("T")


async def for_each(
    items: Iterable[T], work: Callable[[T], Coroutine[Any, Any, object]], parallel: int
) -> None:
    """Run *work* for each of *items*, up to *parallel* at once; the first error ends all."""
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await work(item)

    await together(worker() for _ in range(parallel))
