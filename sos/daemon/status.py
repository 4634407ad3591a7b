"""The status of a daemon, for ``GET /status`` and ``GET /metrics``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from attrs import evolve

from sos import __version__
from sos.files.watched import WatchedFiles
from sos.interfaces import IReplicaStore
from sos.monitoring import prometheus
from sos.monitoring.commit_metrics import Commits
from sos.monitoring.request_metrics import RequestMetrics
from sos.monitoring.sightings import Sightings
from sos.scrub import Report

if TYPE_CHECKING:  # a blob server needs none of them at run time
    from sos.collection import CollectionService
    from sos.replication import ReplicationService
    from sos.stores.replicated.store import ReplicatedStore


class Part(Protocol):
    """The part of a daemon that stores objects: a cluster, or a store of its own.

    :ivar commits: the commit metrics of its own store, if it has one.
    """

    commits: Commits | None

    async def document(self) -> dict[str, Any]:
        """Return its status as a JSON document."""
        ...


class DaemonStatus:
    """The status of a daemon.

    :param settings: the settings to report.
    :param request_metrics: the metrics of the requests that it answers.
    :param sightings: the API servers that use it, for a blob server.
    :param files: watched files, whose errors it reports.
    :param collection: the garbage collection of an API server; None if it runs none.
    """

    def __init__(
        self,
        part: Part,
        settings: Mapping[str, object],
        reactor: Any,
        request_metrics: RequestMetrics | None = None,
        sightings: Sightings | None = None,
        files: Sequence[WatchedFiles[Any]] = (),
        collection: CollectionService | None = None,
    ) -> None:
        self._collection = collection
        self._part = part
        self._settings = dict(settings)
        self._reactor = reactor
        self._started_at = reactor.seconds()
        self._request_metrics = request_metrics or RequestMetrics()
        self._sightings = sightings
        self._files = files

    async def document(self) -> dict[str, Any]:
        """Return the status as a JSON document."""
        document = {
            "version": __version__,
            "time": round(time.time(), 3),
            "uptime": round(self._reactor.seconds() - self._started_at, 3),
            "settings": self._settings,
            "requests": self._request_metrics.summary(),
            **await self._part.document(),
        }
        troubles = [trouble for each in self._files if (trouble := each.trouble())]
        document["errors"] = [*document.get("errors", []), *troubles]
        if self._collection is not None:
            document["collection"] = _collecting(self._collection)
        if self._sightings is not None:
            document["members"] = self._sightings.document()
        return document

    async def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        commits = self._part.commits
        return prometheus.text(
            await self.document(),
            self._request_metrics.document(),
            None if commits is None else commits.document(),
        )


def _collecting(collection: CollectionService) -> dict[str, Any]:
    last = collection.last
    return {
        "interval": collection.interval,
        "running_since": collection.running_since,
        "last": None if last is None else attrs.asdict(last),
        "lag": round(collection.lag, 3),
        "ended": dict(collection.ended),
        "freed": dict(collection.freed),
    }


class ClusterPart:
    """The status of the cluster behind an API server: servers and replication."""

    commits: Commits | None = None

    def __init__(self, members: ReplicatedStore, replication: ReplicationService | None) -> None:
        self._members = members
        self._replication = replication

    async def document(self) -> dict[str, Any]:
        groups = await self._members.survey()
        background = self._members.background
        return {
            "groups": {
                group: [attrs.asdict(each) for each in servers] for group, servers in groups.items()
            },
            "errors": self._members.errors(),
            "background": {"copies": background.count, "bytes": background.bytes},
            "replication": self._replicating(),
        }

    def _replicating(self) -> dict[str, Any] | None:
        if self._replication is None:
            return None
        last = self._replication.last
        return {
            "running_since": self._replication.running_since,
            "last": None if last is None else attrs.asdict(last),
            "lag": round(self._replication.lag, 3),
            "hints": self._replication.hints,
            "passes": dict(self._replication.passes),
            "made": dict(self._replication.made),
        }


class StorePart:
    """The status of the daemon's own store.

    :param scrub: the progress of the scrub, if the daemon scrubs.
    """

    def __init__(
        self, store: IReplicaStore, scrub: Report | None, commits: Commits | None = None
    ) -> None:
        self.commits = commits
        self._store = store
        self._scrub = scrub

    async def document(self) -> dict[str, Any]:
        status = await self._store.status()
        if status.id is None:
            status = evolve(status, id=getattr(self._store, "identity", None))
        own = attrs.filters.exclude("scrub", "others", "time")
        store_status = attrs.asdict(status, filter=own)
        scrub = None if self._scrub is None else attrs.asdict(self._scrub)
        return {"store": store_status, "scrub": scrub}
