"""Resumable uploads in the API server: their options and their service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.aio.threads import threads_of
from sos.daemon.options import DaemonOptions
from sos.daemon.services import STOP_SECONDS, give_up
from sos.daemon.tls import absolute
from sos.interfaces import IBlobStore
from sos.model.upload_clock import UploadClock
from sos.resumable import ResumableUploads
from sos.stores.unfinished_uploads import UnfinishedUploads
from sos.web.client_headers import KeptHeaders
from sos.web.tus_server import TusServer

# Seconds between searches for expired uploads.
_SWEEP_SECONDS = 60.0

_log = Logger()


def check(options: DaemonOptions) -> None:
    """Make the path of ``--unfinished-dir`` absolute."""
    if options["unfinished-dir"] is not None:
        options["unfinished-dir"] = absolute(options["unfinished-dir"])


def add_resumable(
    whole: MultiService,
    options: DaemonOptions,
    store: IBlobStore,
    kept_headers: KeptHeaders,
    clock: UploadClock,
    reactor: Any,
) -> TusServer | None:
    """Return the server of resumable uploads, None if *options* name no directory for them.

    :param kept_headers: the X-* headers to store.
    :param clock: dates the uploads.
    """
    if options["unfinished-dir"] is None:
        return None
    uploads = UnfinishedUploads(
        Path(options["unfinished-dir"]), options["unfinished-limit"], options["unfinished-expiry"]
    )
    threads = threads_of(reactor)
    taking = ResumableUploads(uploads, store, threads, reactor, options["max-size"], clock)
    _UnfinishedService(uploads, taking, reactor).setServiceParent(whole)
    return TusServer(taking, kept_headers)


class _UnfinishedService(PeriodicService):
    """Creates the directory, deletes expired uploads, and waits for requests at the end."""

    def __init__(self, uploads: UnfinishedUploads, taking: ResumableUploads, reactor: Any) -> None:
        super().__init__("deleting expired uploads", reactor)
        self._uploads = uploads
        self._taking = taking
        self._in_thread = threads_of(reactor)

    def startService(self) -> None:
        try:
            self._uploads.prepare()
        except OSError as error:
            give_up(f"cannot use --unfinished-dir: {error}")
        super().startService()

    def delay(self) -> float:
        return min(_SWEEP_SECONDS, self._uploads.seconds)

    async def work(self) -> None:
        removed = await self._in_thread(self._uploads.sweep)
        if removed:
            _log.info("deleted expired uploads: count={count}", count=removed)

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        # Interrupted requests may still be writing their parts.
        settled = self._taking.settled()
        settled.addTimeout(STOP_SECONDS, self.clock, onTimeoutCancel=lambda *_: None)
        await settled
