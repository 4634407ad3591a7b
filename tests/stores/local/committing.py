"""A committer that is held up, so that what comes meanwhile is in one transaction."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from twisted.internet.threads import deferToThread


@asynccontextmanager
async def held_up(committer) -> AsyncGenerator[None, None]:
    """Keep the writer thread of *committer* busy in the block, and let it go on behind it."""
    started, release = threading.Event(), threading.Event()

    def hold(transaction):
        started.set()
        release.wait(60)

    first = committer.submit(hold)
    await deferToThread(started.wait, 10)
    yield
    release.set()
    await first


def mistake(transaction):
    """Undo the transaction, and with it what it is together with."""
    raise ZeroDivisionError
