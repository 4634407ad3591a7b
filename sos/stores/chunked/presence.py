"""Whether the chunks of an object are there: each is asked for, and none is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from sos.aio.gather import together
from sos.errors import NotFound, Unavailable
from sos.interfaces import BlobInfo
from sos.model.manifest import Chunk

#: Most chunks of one object that are asked for at once.
AT_ONCE = 16


async def look_for(chunks: Iterable[Chunk], stat: Callable[[str], Awaitable[BlobInfo]]) -> None:
    """Return when all of *chunks* have been seen, each once.

    An object of which one is gone is neither whole nor missing: it raises
    :exc:`~sos.errors.Unavailable`, as it does when that cannot be told.

    :param stat: asks for one, see :meth:`sos.interfaces.IBlobStore.stat`.
    """
    remaining = iter(dict.fromkeys(chunks))

    async def looker() -> None:
        for chunk in remaining:
            try:
                check_size(chunk, await stat(chunk.id))
            except NotFound as error:
                raise gone(chunk) from error

    await together(looker() for _ in range(AT_ONCE))


def gone(chunk: Chunk) -> Unavailable:
    """Return what is raised of an object when *chunk* of it is found nowhere."""
    return Unavailable(f"the chunk {chunk.id} is missing: upload the object again")


def check_size(chunk: Chunk, found: BlobInfo) -> None:
    """Raise Unavailable unless *found* can be *chunk*."""
    if found.size not in (None, chunk.size):
        raise Unavailable(f"the chunk {chunk.id} is of {found.size} bytes, not of {chunk.size}")
