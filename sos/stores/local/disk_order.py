"""The blobs of a directory in the order of their bodies on the disk."""

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
class DiskOrder:
    """The blobs of a local store for a scrub, which reads the index in threads.

    The index is a mapped file: reading a page that is not in memory waits for the disk.

    :param opened: opens the blob with an id and an encoded record.
    """

    index: Index
    layout: Layout
    run_in_thread: RunInThread
    opened: Callable[[str, Encoded | None], Awaitable[Blob]]

    async def listing(self, after: str | None, limit: int) -> list[str]:
        """Return the next *limit* ids after *after*, sorted by position on the disk.

        Ids that are marked as unreadable are included.
        """
        return await self.run_in_thread(self._page, after, limit)

    async def read(self, id: str) -> Blob:
        """Open a blob, as :meth:`sos.interfaces.IBlobStore.read` does."""
        encoded = await self.run_in_thread(self.index.read_in_thread, self.index.get, id)
        return await self.opened(id, encoded)

    def _page(self, after: str | None, limit: int) -> list[str]:
        places = self.index.read_in_thread(self.index.places, after, limit)
        return sorted(places, key=partial(self._place, places))

    def _place(self, places: dict[str, int], id: str) -> tuple[bool, int]:
        if places[id]:
            return False, places[id]
        # File systems tend to allocate both disk blocks and inode numbers in order of creation.
        try:
            return True, self.layout.body(id).stat().st_ino
        except OSError:
            return True, 0
