"""Check that the chunks of an object exist, without reading them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from sos.aio.gather import together
from sos.errors import NotFound, Unavailable
from sos.interfaces import BlobInfo
from sos.model.manifest import Chunk

#: Most concurrent requests for the chunks of one object.
AT_ONCE = 16


async def look_for(chunks: Iterable[Chunk], stat: Callable[[str], Awaitable[BlobInfo]]) -> None:
    """Check once for each of *chunks* that it exists.

    :param stat: see :meth:`sos.interfaces.IBlobStore.stat`.
    :raises Unavailable: if a chunk is missing, or may be: the object is neither whole nor
        missing then.
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
    """Return the error for an object whose *chunk* no server has."""
    return Unavailable(f"the chunk {chunk.id} is missing: upload the object again")


def check_size(chunk: Chunk, found: BlobInfo) -> None:
    """Raise Unavailable if *found* has another size than *chunk*."""
    if found.size not in (None, chunk.size):
        raise Unavailable(f"the chunk {chunk.id} has {found.size} bytes instead of {chunk.size}")
