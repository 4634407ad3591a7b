"""What ``GET /status`` tells: each worker of a daemon knows a part, and here it is put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from attrs import evolve

from sos import __version__, sightings
from sos.interfaces import IReplicaStore
from sos.scrub import Report
from sos.sightings import Sightings
from sos.survey import Account
from sos.tally import Tally, together
from sos.tap.commits import Commits
from sos.tap.siblings import Siblings
from sos.tap.worker import Worker
from sos.watched_file import WatchedFiles
from sos.web import metrics
from sos.web.metrics.workers import Processes, process

if TYPE_CHECKING:  # a blob server has neither
    from sos.replication import ReplicationService
    from sos.stores.replicated import ReplicatedStore


class Part(Protocol):
    """A part of a daemon, as its processes know it."""

    def own(self) -> dict[str, Any]:
        """Return what this process knows, as JSON can hold it."""
        ...

    async def together(self, others: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return what is to be told, by what *others* know and this process does."""
        ...


class Overview:
    """How a daemon is doing.

    :param settings: what it was told to do, as far as that matters to its users.
    :param worker: the process that this is, if the daemon has several.
    :param tally: of the requests that this process answers.
    :param sightings: of API servers, where it is told of these.
    :param files: of which it is told when they do not hold as they are.
    """

    def __init__(
        self,
        part: Part,
        settings: Mapping[str, object],
        worker: Worker | None,
        reactor: Any,
        tally: Tally | None = None,
        sightings: Sightings | None = None,
        files: Sequence[WatchedFiles[Any]] = (),
    ) -> None:
        self._files = files
        self._sightings = sightings
        self._part = part
        self._settings = dict(settings)
        self._reactor = reactor
        self._siblings = Siblings([], lambda to, message: None, reactor)
        self._started_at = reactor.seconds()
        self._tally = tally or Tally()
        self._number = 1
        if worker is not None:
            self._siblings = worker.siblings
            self._number = worker.number
            self._started_at = worker.started_at
        self._siblings.tell = self.own

    async def document(self) -> dict[str, Any]:
        """Return it, as JSON can hold it."""
        document, _ = await self._told()
        return document

    async def metrics(self) -> bytes:
        """Return it in Prometheus' text format."""
        return metrics.text(*await self._told())

    def own(self) -> dict[str, Any]:
        """Return what this process knows, as JSON can hold it."""
        return {
            "part": self._part.own(),
            "requests": self._tally.told(),
            "process": process(),
            "troubles": [trouble for each in self._files if (trouble := each.trouble())],
            "sightings": None if self._sightings is None else self._sightings.told(),
        }

    async def _told(self) -> tuple[dict[str, Any], Processes]:
        """Return the document, and what each process had to say for it."""
        told = await self._siblings.ask()
        others = {number: each for number, each in told.items() if each is not None}
        processes = dict(sorted({self._number: self.own(), **others}.items()))
        document = {
            "version": __version__,
            "uptime": round(self._reactor.seconds() - self._started_at, 3),
            "settings": self._settings,
            "workers": {
                "count": len(told) + 1,
                "silent": [number for number, each in told.items() if each is None],
            },
            "requests": together(each["requests"] for each in processes.values()),
            **await self._part.together([each["part"] for each in others.values()]),
        }
        troubles = [trouble for each in processes.values() for trouble in each["troubles"]]
        document["errors"] = list(dict.fromkeys([*document.get("errors", []), *troubles]))
        if self._sightings is not None:
            heard = [each["sightings"] for each in processes.values()]
            document["members"] = sightings.together(heard)
        return document, processes


class ClusterPart:
    """The servers, and the copies that are made among them."""

    def __init__(self, members: ReplicatedStore, replication: ReplicationService | None) -> None:
        self._members = members
        self._replication = replication

    def own(self) -> dict[str, Any]:
        accounts = self._members.accounts()
        return {
            "accounts": {name: attrs.asdict(each) for name, each in accounts.items()},
            "background": self._background(),
            "replication": self._replicating(),
            "errors": self._members.errors(),
        }

    async def together(self, others: Sequence[dict[str, Any]]) -> dict[str, Any]:
        accounts = [
            {name: Account(**each) for name, each in other["accounts"].items()} for other in others
        ]
        groups = await self._members.survey(accounts)
        errors = [self._members.errors(), *(other["errors"] for other in others)]
        copying = [self._background(), *(other["background"] for other in others)]
        return {
            "groups": {
                group: [attrs.asdict(each) for each in servers] for group, servers in groups.items()
            },
            "errors": list(dict.fromkeys(error for each in errors for error in each)),
            "background": {
                name: sum(each[name] for each in copying) for name in ("copies", "bytes")
            },
            "replication": _first(
                [self._replicating(), *(other["replication"] for other in others)]
            ),
        }

    def _background(self) -> dict[str, int]:
        background = self._members.background
        return {"copies": background.count, "bytes": background.bytes}

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
    """A store of the daemon's own.

    :param scrub: of the process that scrubs.
    :param failure: tells why this process takes nothing more, if it does not,
        until it is started again.
    :param commits: what this process has counted of them, where it commits itself.
    """

    def __init__(
        self,
        store: IReplicaStore,
        scrub: Report | None,
        failure: Callable[[], str | None] = lambda: None,
        commits: Commits | None = None,
    ) -> None:
        self._commits = commits
        self._store = store
        self._scrub = scrub
        self._failure = failure

    def own(self) -> dict[str, Any]:
        return {
            "failure": self._failure(),
            "scrub": self._scrubbing(),
            "commits": None if self._commits is None else self._commits.told(),
        }

    async def together(self, others: Sequence[dict[str, Any]]) -> dict[str, Any]:
        status = await self._store.status()
        if status.id is None:
            status = evolve(status, id=getattr(self._store, "identity", None))
        failure = _first([self._failure(), *(other["failure"] for other in others)])
        if failure is not None:
            status = evolve(status, writable=False, reason=failure)
        scrub = _first([self._scrubbing(), *(other["scrub"] for other in others)])
        told = attrs.asdict(status, filter=attrs.filters.exclude("scrub", "others"))
        return {"store": told, "scrub": scrub}

    def _scrubbing(self) -> dict[str, Any] | None:
        return None if self._scrub is None else attrs.asdict(self._scrub)


def _first(values: Sequence[Any]) -> Any:
    """Return the first that there is, for one process knows it."""
    return next((each for each in values if each is not None), None)
