"""The servers of a replicated store: their groups, the order to try them in, and their health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock

from sos.interfaces import Groups, StoreStatus
from sos.model.membership import View
from sos.model.placement import Placement
from sos.monitoring.server_health import (
    Answer,
    ServerHealth,
    ask,
    described_twins,
    health_by_group,
    twins,
)
from sos.stores.replicated.peer import SLOW_SECONDS, Peer

#: Views older than so many seconds are refreshed before an object is reported as not found.
FRESH_SECONDS = 1.0


class Members:
    """The servers of one configuration, which does not change: a reload makes a new object.

    :param before: the peers of the configuration before, by name.  Those that remain are
        reused with their health records.
    :ivar peers: the servers by name.
    """

    def __init__(self, groups: Groups, before: Mapping[str, Peer], clock: Any) -> None:
        self._groups = groups
        self._clock = clock
        self.peers: dict[str, Peer] = {}
        for group, members in groups.items():
            for member in members:
                peer = before.get(member.name)
                if peer is None or peer.store.name != member.store.name:
                    peer = Peer(member, group, clock)
                else:
                    peer.member, peer.group, peer.store = member, group, member.store
                    # A reload acknowledges that the store at this address has a new id.
                    peer.before = peer.identity = None
                self.peers[peer.name] = peer
        self._placement = Placement(
            {
                group: {each.name: each.weight for each in members if not each.readonly}
                for group, members in groups.items()
            }
        )
        self._looking = DeferredLock()
        self._looked_at: float | None = None
        self._readonly = {
            group: [self.peers[each.name] for each in members if each.readonly]
            for group, members in groups.items()
        }

    def stop(self, staying: Mapping[str, Peer] = {}) -> None:
        """Stop the probes of all peers that are not *staying*."""
        for name, peer in self.peers.items():
            if staying.get(name) is not peer:  # a name that moved to another URL has a new peer
                peer.stop()

    # The order in which to try the servers.

    def readers(self, id: str, known: Peer | None, without: Sequence[Peer]) -> Iterator[list[Peer]]:
        """Yield the servers to ask for *id*, group by group, each group's servers in order.

        :param known: the server to ask first, if any; its group comes first.
        :param without: servers not to ask.
        """
        if known is not None:
            others = [peer for peer in self._all(known.group, id, without) if peer is not known]
            yield [known, *others]
        for group in dict.fromkeys([*self._placement.groups(id), *self._readonly]):
            if known is None or group != known.group:
                members = self._all(group, id, without)
                if members:
                    yield members

    def _all(self, group: str, id: str, without: Sequence[Peer]) -> list[Peer]:
        members = [*self.holders(group, id), *self._readonly[group]]
        if without:
            members = [peer for peer in members if peer not in without]
        # Servers with an open circuit breaker come last in their group.
        members.sort(key=lambda peer: (peer.error is not None, not peer.member.preferred))
        return members

    def writers(self, id: str) -> Iterator[list[Peer]]:
        """Yield the servers to write *id* to, group by group, each group's servers in order.

        Servers that take no blobs at present come last, as a group of their own.
        """
        left_alone = []
        for group in self._placement.groups(id):
            members = self.holders(group, id)
            ready = [peer for peer in members if peer.takes_blobs]
            left_alone += [peer for peer in members if not peer.takes_blobs]
            if ready:
                yield ready
        yield left_alone

    def holders(self, group: str, id: str) -> list[Peer]:
        """Return the writable servers of *group*, with the replica set of *id* first."""
        return [self.peers[name] for name in self._placement.members(group, id)]

    def replica_set(self, id: str, copies: int) -> list[Peer]:
        """Return the replica set of *id* for this number of *copies*.

        It is empty if no server can be written to.
        """
        groups = self._placement.groups(id)
        return self.holders(groups[0], id)[:copies] if groups else []

    def possible_replicas(self, id: str, peer: Peer) -> list[Peer]:
        """Return all servers of the own group of *id*, and of the group of *peer*."""
        groups = dict.fromkeys([*self._placement.groups(id)[:1], peer.group])
        return [each for group in groups for each in self._all(group, id, ())]

    # The health of the servers.

    async def survey(self) -> dict[str, list[ServerHealth]]:
        """Ask all servers for their status, and return the health of each, by group."""
        health_records = {name: peer.health_record() for name, peer in self.peers.items()}
        return health_by_group(self._groups, health_records, await self.answers())

    async def answers(self) -> dict[str, Answer]:
        """Ask all servers for their status concurrently; return the answers by server name."""
        answers = await ask(self._groups, SLOW_SECONDS, self._clock)
        for name, answer in answers.items():
            if isinstance(answer, StoreStatus):
                self.peers[name].record_status(answer)
        return answers

    async def look(self) -> None:
        """Refresh the views of other API servers if they are out of date.

        Does nothing, after the first time, if no server collects views.
        """
        begun = self._clock.seconds()
        async with self._looking:  # all that wait here share one refresh
            listens = any(peer.others is not None for peer in self.peers.values())
            seen = self._looked_at
            if seen is None or (listens and begun - seen > FRESH_SECONDS):
                self._looked_at = self._clock.seconds()
                await self.answers()

    async def learn_abilities(self, peers: Sequence[Peer]) -> None:
        """Ask all servers for their status if it is unknown whether *peers* remember deletions."""
        async with self._looking:  # all that wait here share one answer
            # Servers that have failed are probed, which tells it as well.
            if any(peer.tombstones is None and peer.error is None for peer in peers):
                await self.answers()

    def unknown(self) -> list[str]:
        """Return the names of servers that other API servers use, and that are unknown here."""
        return sorted({name for view in self._views() for name in view.unknown or ()})

    def _views(self) -> list[View]:
        """Return the views of other API servers, each once."""
        views = {view.fingerprint: view for p in self.peers.values() for view in p.others or ()}
        return [views[fingerprint] for fingerprint in sorted(views)]

    def errors(self) -> list[str]:
        """Return the known problems: shared or changed store ids, and differing views."""
        others = self._views()
        if len(others) == 1 and others[0].unknown is None:  # we have no view, and all others agree
            others = []
        same = twins({name: peer.identity for name, peer in self.peers.items()})
        return [
            *map(described_twins, same),
            *map(str, others),
            *(
                f"{name} has another store id than before, {peer.identity} instead of "
                f"{peer.before}: was its disk wiped, or another one mounted? If this is intended, "
                "reload (SIGHUP)"
                for name, peer in self.peers.items()
                if peer.before is not None
            ),
        ]
