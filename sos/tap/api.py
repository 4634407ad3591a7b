"""``twistd sos-api``: the API server."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from attrs import evolve
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python.usage import (
    CompleteDirs,
    CompleteFiles,
    CompleteHostnames,
    CompleteList,
    Completions,
    UsageError,
)

from sos import __version__
from sos.aio.threads import threads_of
from sos.collection import CollectionService, Limits
from sos.daemon import tls
from sos.daemon.dns import HostnameResolver
from sos.daemon.exposure import LOOPBACK, UNIX, reach
from sos.daemon.options import parameter, setting
from sos.daemon.proxies import proxied
from sos.daemon.reload import Reloading
from sos.daemon.services import Daemon, check_endpoint, complete, listening, listening_beside, tcp
from sos.daemon.shared_ports import sharing_ports
from sos.daemon.status import ClusterPart, DaemonStatus, Part
from sos.errors import ConfigError
from sos.files.watched import WatchedFiles
from sos.http.client.agent import Agent
from sos.http.tls import RenewableClient
from sos.interfaces import Groups, IBlobStore, Member
from sos.model import conf_parser, ids
from sos.model.conf_parser import Config
from sos.model.membership import Announcer, Membership
from sos.model.settings import SETTINGS
from sos.model.upload_clock import UploadClock
from sos.monitoring.request_metrics import RequestMetrics
from sos.replication import Hints, Policy, ReplicationService
from sos.stores import spool
from sos.stores.cache.reads import CachedReads
from sos.stores.cache.shared import SharedCache
from sos.stores.chunked.store import ChunkedStore
from sos.stores.replicated.location_cache import LocationCache
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from sos.stores.retention import Retention
from sos.tap import access, admission, cluster, local, stores, unfinished
from sos.tap.admin import AdminOptions
from sos.tap.caches import CacheService, cached, shared_cache
from sos.tap.engine import is_engine
from sos.tap.watch import HealthCheck
from sos.web.admin_api import AdminServer, transfers_alone
from sos.web.client_headers import KeptHeaders
from sos.web.public_api import DownloadServer, UploadServer

_NO_SERVERS = (
    "no blob servers are configured. List their URLs, one a line, in /etc/sos.conf or "
    "~/.sos.conf, or name them with --blob-server http://localhost:4001,http://localhost:4002; "
    "or store everything on this machine with --store DIR"
)

# The settings in /status.
_STORE_SETTINGS: tuple[str, ...] = ("hash", "max-size", "allow-delete")
_CLUSTER_SETTINGS: tuple[str, ...] = (
    "write-copies",
    "min-copies",
    "replicate-every",
    "replicate-rate",
    "hash",
    "max-size",
    "chunk-size",
    "allow-delete",
)

# Settings whose options are declared elsewhere: shared with blob servers, or a flag.
_ELSEWHERE = {name for name, *_ in (*AdminOptions.optParameters, *admission.FLAGS)}

_log = Logger()

# Descriptors for one connection: its socket, its spools, and connections to servers.
_FILES = 8


class Options(AdminOptions):
    """The options of ``twistd sos-api``."""

    program = "sos-api"
    synopsis = "[--blob-server URL,URL | --config FILE | --store DIR] [options]"
    longdesc = (
        "Accepts uploads on one port and serves downloads on another. Reads the list of blob "
        "servers from /etc/sos.conf and ~/.sos.conf. Their section [sos] can set "
        f"{', '.join(SETTINGS)}."
    )

    optParameters = [
        parameter(
            "blob-server",
            None,
            None,
            "URLs of the blob servers, separated by commas; replaces the list in sos.conf.",
        ),
        parameter(
            "config",
            "c",
            None,
            "Read this configuration file instead of /etc/sos.conf and ~/.sos.conf.",
        ),
        parameter(
            "store",
            "s",
            None,
            "Store all objects in this directory, or the engine at this URL, instead of on blob "
            "servers.",
        ),
        *(setting(name) for name in SETTINGS if name not in _ELSEWHERE),
        *access.PARAMETERS,
        access.AUDIT,
        *local.PARAMETERS,
    ]
    compData = Completions(
        optActions={
            "access-log": CompleteFiles(),
            "api-host": CompleteHostnames(),
            "audit-log": CompleteFiles(),
            "config": CompleteFiles(),
            "hash": CompleteList(ids.ALGORITHMS),
            "store": CompleteDirs(descr="directory of the blobs"),
            "unfinished-dir": CompleteDirs(descr="directory of unfinished uploads"),
        }
    )
    optFlags = [
        ["dump", None, "Print the configuration, and exit."],
        [
            "reuse-port",
            None,
            "Share the upload and download ports with other API servers on this machine.",
        ],
        ["verbose", "v", "Log each request to the daemon's log, unless --access-log is set."],
        *admission.FLAGS,
        *local.FLAGS,
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen-upload"] = []
        self["listen-download"] = []

    def opt_listen_upload(self, endpoint: str) -> None:
        """Twisted endpoint for uploads, instead of --upload-port; repeatable."""
        check_endpoint("--listen-upload", endpoint)
        self["listen-upload"].append(endpoint)

    def opt_listen_download(self, endpoint: str) -> None:
        """Twisted endpoint for downloads, instead of --download-port; repeatable."""
        check_endpoint("--listen-download", endpoint)
        self["listen-download"].append(endpoint)

    def too_small(self, found: Config) -> list[str]:
        """Return a message for each group of *found* with too few servers for its copies."""
        return conf_parser.too_small(found.groups, self["min-copies"])

    def postOptions(self) -> None:
        if self["store"] is not None and self["blob-server"] is not None:
            raise UsageError("--store and --blob-server exclude each other")
        if self["cache"] is not None and self["store"] and not is_engine(self["store"]):
            raise UsageError(
                "--cache has no effect with a directory as --store: remove it, or use blob servers "
                "or an engine"
            )
        found = cluster.load(self["config"], self["blob-server"])
        if self["store"] is not None:
            if self["config"] is not None and found.groups:
                raise UsageError(
                    f"--store and blob servers exclude each other: remove --store, or the servers "
                    f"in {self['config']}"
                )
            found = evolve(found, groups={})
        for name, each in SETTINGS.items():
            if self[name] is None:
                self[name] = found.settings.get(name, each.default)
        # Otherwise anti-entropy passes would delete copies that an upload has waited for.
        self["min-copies"] = max(self["min-copies"], self["write-copies"])
        if self["dump"]:
            lines = [cluster.describe(found, settings=True)]
            lines += [f"warning: {each}" for each in self.too_small(found)]
            sys.stdout.write("\n".join(lines) + "\n")
            raise SystemExit(0)
        if self["store"] is None and not found.groups:
            raise UsageError(_NO_SERVERS)
        self["cluster"] = found
        self["config-files"] = cluster.present()
        if self["store"] is None:
            cluster.check_copies(found, self["write-copies"])
        # Resolve relative paths now: twistd may change its directory.
        for name in ("access-log", "audit-log", "config"):
            if self[name] is not None:
                self[name] = os.path.abspath(self[name])
        for name in admission.YES_OR_NO:
            self[name] = bool(self[name] or found.settings.get(name, False))
        unfinished.check(self)
        admission.check_secret(self)
        admission.check_tokens(self)
        tls.check_client_tls(self)
        if self["store"] is not None:
            stores.check(self)
            if is_engine(self["store"]) and self["cache"] and not self["secret-file"]:
                raise UsageError(
                    "--cache with an engine needs a --secret-file as well, whose key protects the "
                    "blobs in the cache"
                )
        host = self["api-host"]
        self["uploads"] = self["listen-upload"] or [tcp(host, self["upload-port"])]
        self["downloads"] = self["listen-download"] or [tcp(host, self["download-port"])]
        self.set_admins()
        endpoints = [*self["uploads"], *self["downloads"], *self["admins"]]
        self["reach"] = {endpoint: reach(endpoint) for endpoint in endpoints}
        tls.check_server_tls(self, endpoints)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the service that *options* describe."""
    if reactor is None:
        from twisted.internet import reactor
    whole = _serve(options, reactor)
    lines = [
        f"accepts uploads on {' '.join(options['uploads'])}",
        f"serves downloads on {' '.join(options['downloads'])}",
        *([f"admin port on {' '.join(options['admins'])}"] if options["admins"] else []),
        *(_describe(options) if options["store"] is None else stores.describe(options)),
    ]
    complete(whole, f"SOS API server {__version__}", lines, options, reactor)
    return whole


def _serve(options: Options, reactor: Any) -> MultiService:
    whole = Daemon()
    HostnameResolver(reactor).setServiceParent(whole)
    store: IBlobStore
    part: Part
    settings: dict[str, object] = {}
    clock = UploadClock()
    client_files: list[WatchedFiles[Any]] = []
    if options["store"] is not None:
        kept, part = stores.add_store(whole, options, reactor, options["hash"])
        groups: Groups = {"store": (Member(kept),)}
        store, retention = _alone(groups, options, clock, whole, reactor)
        collection = _collection(groups, options, whole, reactor)
        settings["store"] = kept.name  # does not contain the password in a URL
        names = _STORE_SETTINGS
    else:
        servers = _ClusterService(options, clock, reactor)
        servers.setServiceParent(whole)
        store, part, retention = servers.store, servers.part, servers.retention
        collection = servers.collection
        names = _CLUSTER_SETTINGS
        client_files = [servers.tls_files]
    settings.update({name: options[name] for name in names})
    request_metrics = RequestMetrics()
    guards = admission.ClientGuards(options)
    context = tls.server_tls_of(options)
    files: list[WatchedFiles[Any]] = [
        *guards.files,
        *admission.secret_files(options),
        *([context] if context else []),
        *client_files,
    ]
    overview = DaemonStatus(
        part, settings, reactor, request_metrics, files=files, collection=collection
    )
    public = proxied(sharing_ports if options["reuse-port"] else serverFromString, options)
    kept_headers = KeptHeaders(options["kept-headers"])
    resumable = unfinished.add_resumable(whole, options, store, kept_headers, clock, reactor)
    uploads = UploadServer(
        store,
        options["max-size"],
        kept_headers,
        resumable,
        retention,
        options["allow-delete"],
        clock,
    )
    downloads = DownloadServer(store, options["cache-max-age"])
    note = access.both(
        access.add_log(whole, options, reactor), access.add_audit(whole, options, reactor)
    )
    listening(
        [
            (uploads.app, guards.uploads, options["uploads"]),
            (downloads.app, guards.downloads, options["downloads"]),
        ],
        _FILES,
        request_metrics,
        note,
        reactor,
        options,
        tls.secured(public, options, context),
        guards.origins,
    ).setServiceParent(whole)
    endpoint = proxied(serverFromString, options)
    beside = tls.secured(endpoint, options, context, plain=(UNIX, LOOPBACK))
    face = AdminServer(
        store, overview.document, overview.metrics, uploads, downloads, spool.refusal
    )
    listening_beside(
        face.app,
        options["admins"],
        options,
        reactor,
        beside,
        guards.admin,
        request_metrics.failed_handshakes,
        transfers_alone(request_metrics, note),
    ).setServiceParent(whole)
    return whole


def _alone(
    groups: Groups, options: Options, clock: UploadClock, whole: MultiService, reactor: Any
) -> tuple[IBlobStore, Retention]:
    """Return a store on top of the only one in *groups*, and what renews and deletes its objects.

    An engine gets large objects in chunks; a directory stores bodies of any size without.
    """
    threads = threads_of(reactor)
    copy_counts = CopyCounts(1, 1)
    members = ReplicatedStore(groups, threads, reactor, options["hash"], copy_counts, uploads=clock)
    if not is_engine(options["store"]):
        return groups["store"][0].store, Retention(members, options["min-retention"])
    reads = cached(members.read, _cache(options, whole, reactor), options["secret-file"])
    store = _in_chunks(members, reads, options, clock, reactor)
    return store, Retention(members, options["min-retention"], reads)


def _in_chunks(
    members: ReplicatedStore,
    reads: CachedReads | None,
    options: Options,
    clock: UploadClock,
    reactor: Any,
) -> ChunkedStore:
    """Return a store that splits large objects into chunks, on top of *members*."""
    return ChunkedStore(
        members,
        options["chunk-size"],
        threads_of(reactor),
        options["hash"],
        clock,
        None if reads is None else reads.read,
        options["gc-grace"] / 2,
    )


def _collection(
    groups: Groups, options: Options, whole: MultiService, reactor: Any
) -> CollectionService | None:
    """Add the garbage collection to the service *whole*, unless it is disabled; return it."""
    if not options["gc-every"]:
        return None
    limits = Limits(options["gc-grace"], options["tombstone-age"])
    threads = threads_of(reactor)
    service = CollectionService(groups, limits, options["gc-every"], reactor, threads)
    service.setServiceParent(whole)
    return service


def _cache(options: Options, whole: MultiService, reactor: Any) -> SharedCache | None:
    """Return the shared cache, if there is one, and add its service to *whole*."""
    if options["cache"] is None:
        return None
    cache = shared_cache(options["cache"], reactor)
    CacheService(cache).setServiceParent(whole)
    return cache


def _warn_of_small_groups(options: Options, found: Config) -> None:
    for warning in options.too_small(found):
        _log.warn("{warning}", warning=warning)


class _ClusterService(MultiService):
    """The configured blob servers, as one store.

    :ivar store: the store.
    :ivar retention: renews and deletes its objects.
    :ivar collection: collects its garbage; None if it is disabled.
    :ivar part: its status.
    :ivar tls_files: the TLS files for https servers.
    """

    def __init__(self, options: Options, clock: UploadClock, reactor: Any) -> None:
        super().__init__()
        self._options = options
        self._reactor = reactor
        self.tls_files = tls.client_tls_files(options)
        self._agent = Agent(reactor, tls=partial(RenewableClient, self.tls_files))
        self._credentials = admission.signer(options["secret-file"])
        self._name = cluster.announcer_name()
        groups = self._groups_now = self._groups(options["cluster"])
        copy_counts = CopyCounts(options["write-copies"], options["min-copies"])
        threads = threads_of(reactor)
        cache = _cache(options, self, reactor)
        locations = LocationCache(cache)
        hints: Hints = set()
        self._members = ReplicatedStore(
            groups, threads, reactor, options["hash"], copy_counts, locations, hints, clock
        )
        reads = cached(self._members.read, cache, options["secret-file"])
        self.store = _in_chunks(self._members, reads, options, clock, reactor)
        self.retention = Retention(self._members, options["min-retention"], reads)
        self._replication: ReplicationService | None = None
        if options["replicate-every"]:
            self._replication = ReplicationService(
                groups,
                Policy(options["min-copies"], options["replicate-rate"] or 0),
                options["replicate-every"],
                reactor,
                hints,
            )
            self._replication.setServiceParent(self)
        self.collection = _collection(groups, options, self, reactor)
        self.part = ClusterPart(self._members, self._replication)
        self._watch = HealthCheck(self._members, reactor)
        self._watch.setServiceParent(self)
        Reloading(self._reload, reactor).setServiceParent(self)

    def _groups(self, found: Config) -> Groups:
        membership = Membership.of(found.groups, self._options["min-copies"])
        return cluster.remote_groups(
            found,
            self._reactor,
            self._options["hash"],
            self._agent,
            self._credentials,
            Announcer(self._name, membership),
        )

    def _reload(self) -> str:
        named = self._options["config"], self._options["blob-server"]
        found = cluster.load(*named, self._options["config-files"])
        if not found.groups:
            raise ConfigError("the configuration files list no servers")
        cluster.check_copies(found, self._options["write-copies"])
        groups = self._groups_now = self._groups(found)
        self._members.configure(groups)
        self._watch.check_now()
        if self._replication is not None:
            self._replication.groups = groups
        if self.collection is not None:
            self.collection.groups = groups
        _warn_of_small_groups(self._options, found)
        lines = ["reloaded the configuration; the servers:", *cluster.describe(found).splitlines()]
        before = self._options["cluster"].settings
        changed = {name for name, _ in before.items() ^ found.settings.items()}
        if changed:
            lines.append(f"restart to apply the changed settings: {', '.join(sorted(changed))}")
        return "\n".join(lines)

    def startService(self) -> None:
        super().startService()
        _warn_of_small_groups(self._options, self._options["cluster"])

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        self._members.stop()
        await cluster.leave(self._groups_now, self._reactor)
        await self._agent.close()

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._stop())


def _describe(options: Options) -> list[str]:
    lines = cluster.describe(options["cluster"]).splitlines()
    every = options["replicate-every"]
    if every:
        lines.append(f"replicates to {options['min-copies']} copies, every {every:g} s")
    else:
        lines.append("runs no anti-entropy passes: run sos replicate from cron")
    if options["cache"] is not None:
        lines.append(f"uses the shared cache {options['cache']}")
    return lines
