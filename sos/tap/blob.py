"""``twistd sos-blob``: the blob server."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import serverFromString
from twisted.python.usage import UsageError

from sos import __version__, config
from sos.tap import admission, local, stores, tls
from sos.tap.options import DaemonOptions, parameter
from sos.tap.overview import Overview
from sos.tap.reach import OTHERS, reach
from sos.tap.services import Announcement, Daemon, check_endpoint, listening, tcp
from sos.tap.supervisor import supervised
from sos.tap.worker import Worker
from sos.web.blob import BlobServer

_UNGUARDED = (
    "other machines could read and write everything here. Let in those alone who share a secret, "
    "by --secret-file FILE (sos secret makes one), or who have a certificate, by --tls-client-ca, "
    "or whoever can connect, by --no-auth"
)

# Descriptors for one connection: itself, and the file that it reads or writes.
_FILES = 2


class Options(DaemonOptions):
    """What ``twistd sos-blob --help`` shows."""

    program = "sos-blob"
    synopsis = "[--port PORT] [--store DIR] [options]"
    longdesc = "Keeps blobs in a directory and serves them over HTTP."

    optParameters = [
        parameter("port", "p", 3001, "Port to listen on.", config.port),
        parameter("host", None, "127.0.0.1", "Address to listen on."),
        parameter("store", "s", "data", "Directory of the blobs, or URL of an engine."),
        parameter("max-size", None, None, "Refuse larger blobs (64K, 8M, 5G).", config.limit),
        parameter("access-log", None, None, "Write each request to this file."),
        admission.SECRET_FILE,
        *tls.SERVER_TLS,
        *local.PARAMETERS,
    ]
    optFlags = [
        ["verbose", "v", "Write each request to the log."],
        ["no-auth", None, "Serve whoever can connect, from other machines as well."],
        *local.FLAGS,
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Twisted endpoint to listen on instead of --host and --port; repeatable."""
        check_endpoint("--listen", endpoint)
        self["listen"].append(endpoint)

    def postOptions(self) -> None:
        stores.check(self)
        if self["access-log"] is not None:
            self["access-log"] = os.path.abspath(self["access-log"])
        self["endpoints"] = self["listen"] or [tcp(self["host"], self["port"])]
        admission.check_secret(self)
        tls.check_server_tls(self, self["endpoints"])
        if self["no-auth"] and self["secret-file"] is not None:
            raise UsageError("--no-auth and --secret-file exclude each other")
        guarded = self["no-auth"] or self["secret-file"] or self["tls-client-ca"]
        self["reach"] = {endpoint: reach(endpoint) for endpoint in self["endpoints"]}
        if not guarded and OTHERS in self["reach"].values():
            raise UsageError(_UNGUARDED)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the service that *options* describe."""
    if reactor is None:
        from twisted.internet import reactor
    whole: MultiService
    if options["workers"] > 1:
        claim = stores.claim(options, reactor)
        whole = supervised(__name__, options, options["endpoints"], claim, reactor)
    else:
        whole = serve(options, None, reactor)
    lines = [f"listens on {' '.join(options['endpoints'])}", *stores.describe(options)]
    Announcement(f"SOS blob server {__version__}", lines).setServiceParent(whole)
    return whole


def serve(options: Options, worker: Worker | None, reactor: Any) -> MultiService:
    """Return the service that serves, in the process *worker* if there are several."""
    whole = Daemon()
    store, part = stores.add_store(whole, options, reactor, worker=worker)
    settings = {"max-size": options["max-size"]}
    overview = Overview(part, settings, worker, reactor)

    async def status() -> dict[str, Any]:
        told = await overview.document()
        return {**told.pop("store"), **told}

    face = BlobServer(store, options["max-size"], status)
    endpoint = worker.endpoint if worker else serverFromString
    listening(
        [(face.app, admission.blob_guard(options), options["endpoints"])],
        options["access-log"],
        bool(options["verbose"]),
        _FILES,
        reactor,
        tls.secured(endpoint, options, tls.server_tls_of(options)),
    ).setServiceParent(whole)
    return whole
