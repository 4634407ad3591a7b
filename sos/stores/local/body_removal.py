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
class Parting:
    """Removes files of bodies whose records are removed."""

    layout: Layout
    committer: Committer
    run_in_thread: RunInThread

    async def part(self, id: str, step: Callable[[Transaction, Path], T]) -> T:
        """Commit ``step(transaction, leaving)``, and remove the file of *id* if it lost its record.

        *step* first links the file to *leaving*, see
        :meth:`~sos.stores.local.disk.Layout.hold`, and then removes its record.
        """
        token = secrets.token_hex(8)
        leaving = self.layout.incoming / incoming_name(id, token)
        try:
            result = await self.committer.submit(partial(_with, step, leaving))
        except ReadOnly:
            raise  # unknown whether it was committed; the next start cleans up
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


def _with(step: Callable[[Transaction, Path], T], leaving: Path, transaction: Transaction) -> T:
    return step(transaction, leaving)
