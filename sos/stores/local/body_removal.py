"""Bodies that part from their records, so that a crash leaves neither alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from twisted.logger import Logger

from sos.aio.threads import RunInThread
from sos.errors import ReadOnly, SOSError
from sos.stores import record as records
from sos.stores.disk_errors import disk_errors
from sos.stores.local.committer import Committer
from sos.stores.local.disk import Layout
from sos.stores.local.recovery import incoming_name
from sos.stores.local.transaction import Transaction

T = TypeVar("T")

_log = Logger()


@frozen
class Parting:
    """Removes the files of bodies that are no blobs any more."""

    layout: Layout
    committer: Committer
    run_in_thread: RunInThread

    async def part(self, id: str, step: Callable[[Transaction, Path], T]) -> T:
        """Commit ``step(transaction, leaving)``, and remove the file of *id* that lost its record.

        *step* makes the index forget that file, and gives it the name
        *leaving* before, see :meth:`~sos.stores.local.disk.Layout.hold`.
        """
        token = secrets.token_hex(8)
        leaving = self.layout.incoming / incoming_name(id, token)
        try:
            result = await self.committer.submit(partial(_with, step, leaving))
        except ReadOnly:
            raise  # the next start sees what was committed
        except BaseException:
            await self._remove(id, leaving)
            raise
        await self._remove(id, leaving)
        return result

    async def _remove(self, id: str, leaving: Path) -> None:
        try:
            if await self.run_in_thread(leaving.exists):
                await self.committer.submit(partial(self.withdraw, id, leaving))
                await self.run_in_thread(leaving.unlink)
        except (SOSError, OSError) as error:
            # The change itself is made, or is not; the next start settles the rest.
            _log.warn("{id}: its file stays until the next start: {error}", id=id, error=error)

    def withdraw(self, id: str, incoming: Path, transaction: Transaction) -> None:
        """Take the place in ``bodies/`` from *incoming*, unless a record has its body there."""
        if not records.has_file(id, transaction.get(id)):
            with disk_errors():
                self.layout.withdraw(incoming, id)


def _with(step: Callable[[Transaction, Path], T], leaving: Path, transaction: Transaction) -> T:
    return step(transaction, leaving)
