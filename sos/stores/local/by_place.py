"""The blobs of a directory in the order in which their bodies lie on its disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from attrs import frozen

from sos.aio.threads import RunInThread
from sos.interfaces import Blob
from sos.stores.local.disk import Layout
from sos.stores.local.index import Index
from sos.stores.record import Encoded


@frozen
class ByPlace:
    """What a scrub reads of a local store, off the reactor's thread.

    The index is a map of its file: to look there for what is not in memory waits for the disk.

    :param opened: opens the blob of an id and its encoded record.
    """

    index: Index
    layout: Layout
    run_in_thread: RunInThread
    opened: Callable[[str, Encoded | None], Awaitable[Blob]]

    async def listing(self, after: str | None, limit: int) -> list[str]:
        """Return the next *limit* ids from behind *after*, the one first that lies first.

        Those that are marked as unreadable are among them.
        """
        return await self.run_in_thread(self._page, after, limit)

    async def read(self, id: str) -> Blob:
        """Open a blob, as :meth:`sos.interfaces.IBlobStore.read` does."""
        return await self.opened(id, await self.run_in_thread(self.index.get, id))

    def _page(self, after: str | None, limit: int) -> list[str]:
        places = self.index.places(after, limit)
        return sorted(places, key=partial(self._place, places))

    def _place(self, places: dict[str, int], id: str) -> tuple[bool, int]:
        if places[id]:
            return False, places[id]
        # File systems put files, and the numbers of them, in order as they come.
        try:
            return True, self.layout.body(id).stat().st_ino
        except OSError:
            return True, 0
