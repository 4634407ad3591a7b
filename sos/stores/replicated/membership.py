"""The members of a replicated store: which there are, in which order to try them, how they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock

from sos.interfaces import Groups, StoreStatus
from sos.model.membership import View
from sos.model.placement import Placement
from sos.monitoring.server_health import Answer, Standing, ask, described_twins, standings, twins
from sos.stores.replicated.peer import SLOW_SECONDS, Peer

#: Seconds that a look at the servers is good for before an object is said not to exist.
FRESH_SECONDS = 1.0


class Members:
    """The members of *groups*, which stay the same: another configuration has others.

    :param before: the peers of an earlier configuration, by their names; those
        that are members still are taken over, with what is known of them.
    :ivar peers: by their names.
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
                    # Who configures it anew has seen that, or is about to make it another.
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
        """Ask those that are not *staying* no more how they are."""
        for name, peer in self.peers.items():
            if staying.get(name) is not peer:  # another, where the name has moved to another URL
                peer.stop()

    # The orders in which to try them.

    def readers(self, id: str, known: Peer | None, without: Sequence[Peer]) -> Iterator[list[Peer]]:
        """Give whom to ask for *id*: by group, each group's members in order.

        :param known: to be asked first.
        :param without: not to be asked.
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
        # One that is left alone is asked when no other of its group has it.
        members.sort(key=lambda peer: (peer.error is not None, not peer.member.preferred))
        return members

    def writers(self, id: str) -> Iterator[list[Peer]]:
        """Give where *id* can go: by group, each group's members in order."""
        left_alone = []
        for group in self._placement.groups(id):
            members = self.holders(group, id)
            ready = [peer for peer in members if peer.takes_blobs]
            left_alone += [peer for peer in members if not peer.takes_blobs]
            if ready:
                yield ready
        yield left_alone

    def holders(self, group: str, id: str) -> list[Peer]:
        """Return those of a group that can be written to, those that should have *id* first."""
        return [self.peers[name] for name in self._placement.members(group, id)]

    def belonging(self, id: str, copies: int) -> list[Peer]:
        """Return those that should have *id*, of which so many *copies* are wanted.

        None where no server can be written to.
        """
        groups = self._placement.groups(id)
        return self.holders(groups[0], id)[:copies] if groups else []

    def fellows(self, id: str, peer: Peer) -> list[Peer]:
        """Return all of the group of *peer*, and of the one that *id* belongs to."""
        groups = dict.fromkeys([*self._placement.groups(id)[:1], peer.group])
        return [each for group in groups for each in self._all(group, id, ())]

    # How they are doing.

    async def survey(self) -> dict[str, list[Standing]]:
        """Tell by group how each is doing, which they are asked at the same time."""
        accounts = {name: peer.account() for name, peer in self.peers.items()}
        return standings(self._groups, accounts, await self.answers())

    async def answers(self) -> dict[str, Answer]:
        """Ask all at once for their status; return what each says, by its name."""
        answers = await ask(self._groups, SLOW_SECONDS, self._clock)
        for name, answer in answers.items():
            if isinstance(answer, StoreStatus):
                self.peers[name].told(answer)
        return answers

    async def look(self) -> None:
        """Have the servers told of late what other API servers go by, if they tell that."""
        begun = self._clock.seconds()
        async with self._looking:  # those who wait are content with one look
            listens = any(peer.others is not None for peer in self.peers.values())
            seen = self._looked_at
            if seen is None or (listens and begun - seen > FRESH_SECONDS):
                self._looked_at = self._clock.seconds()
                await self.answers()

    def unknown(self) -> list[str]:
        """Return the servers that other API servers go by, and that are none of these."""
        return sorted({name for view in self._views() for name in view.unknown or ()})

    def _views(self) -> list[View]:
        """Return what others go by, each once."""
        views = {view.fingerprint: view for p in self.peers.values() for view in p.others or ()}
        return [views[fingerprint] for fingerprint in sorted(views)]

    def errors(self) -> list[str]:
        """Say what is wrong with the members, as far as they have told."""
        others = self._views()
        if len(others) == 1 and others[0].unknown is None:  # we only look, and all agree
            others = []
        same = twins({name: peer.identity for name, peer in self.peers.items()})
        return [
            *map(described_twins, same),
            *map(str, others),
            *(
                f"{name} is another store than before, {peer.identity} and not {peer.before}: was "
                "its disk wiped, or is another mounted? If it is meant to be, reload (SIGHUP)"
                for name, peer in self.peers.items()
                if peer.before is not None
            ),
        ]
