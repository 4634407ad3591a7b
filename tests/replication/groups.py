"""Groups of stores in memory, and passes over them."""

from __future__ import annotations

from attrs import define, field
from twisted.internet import reactor

from sos.errors import NotFound
from sos.interfaces import Member
from sos.model.ids import partition
from sos.model.placement import rank
from sos.replication import Policy, Report, replicate
from sos.stores.memory import MemoryStore


def group(*stores):
    return tuple(each if isinstance(each, Member) else Member(each) for each in stores)


def stores(*names):
    return tuple(MemoryStore(name) for name in names)


@define
class RecordedReport:
    """What a pass told."""

    notes: list = field(factory=list)
    warnings: list = field(factory=list)
    progress: list = field(factory=list)

    def report(self):
        return Report(
            lambda summary: self.progress.append((summary.compared, summary.copied)),
            self.notes.append,
            self.warnings.append,
        )


async def run(groups, copies, recorded=None, clock=reactor, state=None, **policy):
    """Make one pass over *groups*, or over the members of one."""
    if not isinstance(groups, dict):
        groups = {"default": group(*groups)}
    report = (recorded or RecordedReport()).report()
    return await replicate(groups, Policy(copies, **policy), clock, report, state)


def replica_set(id, stores, copies):
    """Return those of *stores* that should hold *id*."""
    order = rank({store.name: 1.0 for store in stores}, partition(id))[:copies]
    return [store for store in stores if store.name in order]


def id_for(stores, *names):
    """Return an opaque name that belongs to the servers of these names first."""
    weights = {store.name: 1.0 for store in stores}
    return next(
        id
        for id in (f"blob{n}" for n in range(10_000))
        if rank(weights, partition(id))[: len(names)] == names
    )


class OriginalStore(MemoryStore):
    """A server of the original system: it lists what it has, and that is all."""

    async def digests(self):
        raise NotFound("there is no /digests")

    async def blob_digests(self, partition):
        raise NotFound("there is no /digests")

    async def lease(self, seconds, token=None):
        raise NotFound("there is no /lease")

    async def reconcile(self, id, metadata):
        raise AssertionError("it cannot be told metadata")

    async def drop(self, id, token, known=None):
        raise AssertionError("it does not drop anything")
