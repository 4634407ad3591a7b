"""Remove the file of a body together with its record, safely across a crash."""

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
class BodyRemoval:
    """Removes files of bodies whose records are removed."""

    layout: Layout
    committer: Committer
    run_in_thread: RunInThread

    async def commit(self, id: str, step: Callable[[Transaction, Path], T]) -> T:
        """Commit ``step(transaction, doomed)``, and remove the file of *id* if it lost its record.

        *step* first links the file to *doomed*, see
        :meth:`~sos.stores.local.disk.Layout.hold`, and then removes its record.
        """
        token = secrets.token_hex(8)
        doomed = self.layout.incoming / incoming_name(id, token)
        try:
            result = await self.committer.submit(partial(_with, step, doomed))
        except ReadOnly:
            raise  # unknown whether it was committed; the next start cleans up
        except BaseException:
            await self._remove(id, doomed)
            raise
        await self._remove(id, doomed)
        return result

    async def _remove(self, id: str, doomed: Path) -> None:
        try:
            if await self.run_in_thread(doomed.exists):
                await self.committer.submit(partial(self.withdraw, id, doomed))
                await self.run_in_thread(doomed.unlink)
        except (SOSError, OSError) as error:
            # The change itself is committed, or is not; the next start cleans up.
            _log.warn(
                "could not clean up a body's file, the next start will, id={id}: {error}",
                id=id,
                error=error,
            )

    def withdraw(self, id: str, incoming: Path, transaction: Transaction) -> None:
        """Unlink *incoming* from ``bodies/``, unless a record has its body in that file."""
        if not records.has_file(id, transaction.get(id)):
            with disk_errors():
                self.layout.withdraw(incoming, id)


def _with(step: Callable[[Transaction, Path], T], doomed: Path, transaction: Transaction) -> T:
    return step(transaction, doomed)
