"""``twistd sos-api``: the API server."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from attrs import evolve
from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import serverFromString
from twisted.python.usage import UsageError

from sos import __version__, config, ids
from sos.interfaces import IBlobStore
from sos.replication import ReplicationService
from sos.stores.lane import threads_of
from sos.stores.replicated import ReplicatedStore
from sos.tap import cluster, local
from sos.tap.options import DaemonOptions, parameter
from sos.tap.services import Announcement, Daemon, check_endpoint, listening, tcp
from sos.tap.supervisor import supervised
from sos.tap.worker import Worker
from sos.web.api import DownloadServer, UploadServer

#: What holds where neither an option nor the section [sos] says otherwise.
DEFAULTS: dict[str, object] = {
    "api-host": "0.0.0.0",
    "upload-port": 9991,
    "download-port": 9992,
    "min-copies": 2,
    "replicate-every": 60.0,
    "hash": ids.DEFAULT_ALGORITHM,
    "max-size": None,
}

_NO_SERVERS = (
    "there is nowhere to keep anything. Name blob servers, one URL a line, in /etc/sos.conf or "
    "~/.sos.conf, or by --blob-server http://localhost:4001,http://localhost:4002; or keep "
    "everything here by --store DIR"
)

# Descriptors for one connection: itself, its spool, and connections to servers.
_FILES = 4


class Options(DaemonOptions):
    """What ``twistd sos-api --help`` shows."""

    program = "sos-api"
    synopsis = "[--blob-server URL,URL | --config FILE | --store DIR] [options]"
    longdesc = (
        "Takes uploads on one port and serves them on another. The blob servers are those of "
        f"/etc/sos.conf and ~/.sos.conf, whose section [sos] can set {', '.join(config.SETTINGS)}."
    )

    optParameters = [
        parameter("blob-server", None, None, "URLs of blob servers, separated by commas."),
        parameter("config", "c", None, "Read this, not /etc/sos.conf and ~/.sos.conf."),
        parameter("store", "s", None, "Keep everything in this directory, without blob servers."),
        parameter("api-host", None, None, "Address to listen on. [default: 0.0.0.0]"),
        parameter("upload-port", None, None, "Port for uploads. [default: 9991]", config.port),
        parameter("download-port", None, None, "Port for fetches. [default: 9992]", config.port),
        parameter("min-copies", None, None, "Copies in a group. [default: 2]", config.copies),
        parameter(
            "replicate-every",
            None,
            None,
            "Seconds between replications, 0 for none. [default: 60]",
            config.seconds,
        ),
        parameter(
            "hash", None, None, "Of new ids: sha1, sha256. [default: sha1]", config.algorithm
        ),
        parameter("max-size", None, None, "Refuse larger objects (64K, 8M, 5G).", config.limit),
        parameter("access-log", None, None, "Write each request to this file."),
        *local.PARAMETERS,
    ]
    optFlags = [
        ["dump", None, "Print the servers by group, and end."],
        ["verbose", "v", "Write each request to the log."],
        *local.FLAGS,
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen-upload"] = []
        self["listen-download"] = []

    def opt_listen_upload(self, endpoint: str) -> None:
        """Twisted endpoint for uploads instead of --upload-port; repeatable."""
        check_endpoint("--listen-upload", endpoint)
        self["listen-upload"].append(endpoint)

    def opt_listen_download(self, endpoint: str) -> None:
        """Twisted endpoint for fetches instead of --download-port; repeatable."""
        check_endpoint("--listen-download", endpoint)
        self["listen-download"].append(endpoint)

    def postOptions(self) -> None:
        if self["store"] is not None and self["blob-server"] is not None:
            raise UsageError("--store and --blob-server exclude each other")
        found = cluster.load(self["config"], self["blob-server"])
        if self["store"] is not None:
            found = evolve(found, groups={})
        if self["dump"]:
            sys.stdout.write(cluster.describe(found, settings=True) + "\n")
            raise SystemExit(0)
        if self["store"] is None and not found.groups:
            raise UsageError(_NO_SERVERS)
        self["cluster"] = found
        for name, default in DEFAULTS.items():
            if self[name] is None:
                self[name] = found.settings.get(name, default)
        # Paths mean what they meant when they were typed, wherever twistd goes.
        for name in ("store", "access-log"):
            if self[name] is not None:
                self[name] = os.path.abspath(self[name])
        host = self["api-host"]
        self["uploads"] = self["listen-upload"] or [tcp(host, self["upload-port"])]
        self["downloads"] = self["listen-download"] or [tcp(host, self["download-port"])]


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the service that *options* describe."""
    if reactor is None:
        from twisted.internet import reactor
    whole: MultiService
    if options["workers"] > 1:
        claim = None if options["store"] is None else partial(local.claim_store, options, reactor)
        endpoints = [*options["uploads"], *options["downloads"]]
        whole = supervised(__name__, options, endpoints, claim, reactor)
    else:
        whole = serve(options, None, reactor)
    lines = [
        f"takes uploads on {' '.join(options['uploads'])}",
        f"serves fetches on {' '.join(options['downloads'])}",
        *(_describe(options) if options["store"] is None else local.describe(options)),
    ]
    Announcement(f"SOS API server {__version__}", lines).setServiceParent(whole)
    return whole


def serve(options: Options, worker: Worker | None, reactor: Any) -> MultiService:
    """Return the service that serves, in the process *worker* if there are several."""
    whole = Daemon()
    store: IBlobStore
    if options["store"] is not None:
        store, _ = local.add_store(whole, options, reactor, options["hash"], worker)
    else:
        store = _clustered(options, whole, worker is None or worker.first, reactor)
    listening(
        [
            (UploadServer(store, options["max-size"]).app, options["uploads"]),
            (DownloadServer(store).app, options["downloads"]),
        ],
        options["access-log"],
        bool(options["verbose"]),
        _FILES,
        reactor,
        worker.endpoint if worker else serverFromString,
    ).setServiceParent(whole)
    return whole


def _clustered(options: Options, whole: MultiService, replicates: bool, reactor: Any) -> IBlobStore:
    groups = cluster.remote_groups(options["cluster"], reactor, options["hash"])
    store = ReplicatedStore(groups, threads_of(reactor), options["hash"])
    every = options["replicate-every"]
    if every and replicates:
        service = ReplicationService(groups, options["min-copies"], every, reactor)
        service.setServiceParent(whole)
    return store


def _describe(options: Options) -> list[str]:
    lines = cluster.describe(options["cluster"]).splitlines()
    every = options["replicate-every"]
    if every:
        lines.append(f"replicates to {options['min-copies']} copies, every {every:g} s")
    else:
        lines.append("does not replicate: run sos replicate")
    return lines
