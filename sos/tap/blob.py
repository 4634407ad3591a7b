"""``twistd sos-blob``: the blob server."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import serverFromString
from twisted.python.usage import (
    CompleteDirs,
    CompleteFiles,
    CompleteHostnames,
    Completions,
    UsageError,
)

from sos import __version__
from sos.daemon import tls
from sos.daemon.dns import HostnameResolver
from sos.daemon.exposure import LOOPBACK, OTHERS, UNIX, reach
from sos.daemon.options import parameter, setting
from sos.daemon.proxies import proxied
from sos.daemon.services import Daemon, check_endpoint, complete, listening, listening_beside, tcp
from sos.daemon.status import DaemonStatus
from sos.files.watched import WatchedFiles
from sos.model import quantities
from sos.model.settings import SETTINGS
from sos.monitoring.request_metrics import RequestMetrics
from sos.monitoring.sightings import Sightings
from sos.tap import access, admission, local, stores
from sos.tap.admin import AdminOptions
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer

_UNGUARDED = (
    "any other machine could read and write all blobs. Require signed requests with --secret-file "
    "FILE (sos secret makes a key), or client certificates with --tls-client-ca FILE; or allow "
    "anybody with --no-auth"
)

# Descriptors for one connection: its socket, and the file that it reads or writes.
_FILES = 2


class Options(AdminOptions):
    """The options of ``twistd sos-blob``."""

    program = "sos-blob"
    synopsis = "[--port PORT] [--store DIR] [options]"
    longdesc = "Stores blobs in a directory, or in an engine, and serves them over HTTP."

    optParameters = [
        parameter("port", "p", 3001, "Port to listen on.", quantities.port),
        parameter("host", None, "127.0.0.1", "Address to listen on."),
        parameter(
            "admin-port",
            None,
            0,
            "Admin port on 127.0.0.1, for /status and /metrics; 0 for none.",
            quantities.port,
        ),
        parameter("store", "s", "data", "Directory of the store, or URL of an engine."),
        parameter(
            "max-size",
            None,
            None,
            "Largest blob to accept, in bytes (64K, 8M, 5G); by default unlimited.",
            quantities.limit,
        ),
        *access.PARAMETERS,
        setting("secret-file"),
        *(setting(name) for name in tls.SERVER_TLS),
        *local.PARAMETERS,
    ]
    compData = Completions(
        optActions={
            "access-log": CompleteFiles(),
            "host": CompleteHostnames(),
            "store": CompleteDirs(descr="directory of the blobs"),
        }
    )
    optFlags = [
        ["verbose", "v", "Log each request to the daemon's log, unless --access-log is set."],
        ["no-auth", None, "Allow other machines to read and write all blobs without credentials."],
        *local.FLAGS,
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Twisted endpoint to listen on, instead of --host and --port; repeatable."""
        check_endpoint("--listen", endpoint)
        self["listen"].append(endpoint)

    def postOptions(self) -> None:
        stores.check(self)
        if self["idle-timeout"] is None:
            self["idle-timeout"] = SETTINGS["idle-timeout"].default
        if self["access-log"] is not None:
            self["access-log"] = os.path.abspath(self["access-log"])
        self["endpoints"] = self["listen"] or [tcp(self["host"], self["port"])]
        self.set_admins()
        admission.check_secret(self)
        endpoints = [*self["endpoints"], *self["admins"]]
        tls.check_server_tls(self, endpoints)
        if self["no-auth"] and self["secret-file"] is not None:
            raise UsageError("--no-auth and --secret-file exclude each other")
        guarded = self["no-auth"] or self["secret-file"] or self["tls-client-ca"]
        self["reach"] = {endpoint: reach(endpoint) for endpoint in endpoints}
        if not guarded and OTHERS in self["reach"].values():
            raise UsageError(_UNGUARDED)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the service that *options* describe."""
    if reactor is None:
        from twisted.internet import reactor
    whole = _serve(options, reactor)
    lines = [
        f"listens on {' '.join(options['endpoints'])}",
        *([f"admin port on {' '.join(options['admins'])}"] if options["admins"] else []),
        *stores.describe(options),
    ]
    complete(whole, f"SOS blob server {__version__}", lines, options, reactor)
    return whole


def _serve(options: Options, reactor: Any) -> MultiService:
    whole = Daemon()
    HostnameResolver(reactor).setServiceParent(whole)
    store, part = stores.add_store(whole, options, reactor)
    settings = {"max-size": options["max-size"]}
    request_metrics = RequestMetrics()
    sightings = Sightings(reactor.seconds)
    context = tls.server_tls_of(options)
    files: list[WatchedFiles[Any]] = [
        *admission.secret_files(options),
        *([context] if context else []),
    ]
    overview = DaemonStatus(part, settings, reactor, request_metrics, sightings, files)

    async def status() -> dict[str, Any]:
        document = await overview.document()
        return {**document.pop("store"), **document}

    face = BlobServer(store, options["max-size"], status, sightings)
    endpoint = proxied(serverFromString, options)
    guards = admission.ServerGuards(options, store)
    note = access.add_log(whole, options, reactor)
    listening(
        [(face.app, guards.blobs, options["endpoints"])],
        _FILES,
        request_metrics,
        note,
        reactor,
        options,
        tls.secured(endpoint, options, context),
    ).setServiceParent(whole)
    beside = AdminServer(store, status, overview.metrics)
    listening_beside(
        beside.app,
        options["admins"],
        options,
        reactor,
        tls.secured(endpoint, options, context, plain=(UNIX, LOOPBACK)),
        guards.admin,
        request_metrics.failed_handshakes,
    ).setServiceParent(whole)
    return whole
