"""State that replication keeps from one pass to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field

#: Seconds to wait for a server that does not answer before its copies are made elsewhere.
AWAY_SECONDS = 600.0
# Seconds after which a comparison is repeated even if nothing has changed.
_COMPARE_AGAIN = 3600.0


#: Groups and partitions in which a copy is missing or misplaced.
Hints = set[tuple[str, str]]

#: A group and a partition of it; the group is empty for a partition across all groups.
Place = tuple[str, str]

#: Counts for a group: its blobs, and its blobs with too few copies for want of servers.
Found = tuple[int, int]


@define
class Round:
    """A round through places, some in each pass, which pauses while nothing changes.

    :ivar remaining: places left in this round, the next one last.
    """

    remaining: list[Place] = field(init=False, factory=list)
    _begun: object = field(init=False, default=None)
    _finished: tuple[object, float] | None = field(init=False, default=None)

    def begin(self, known: object, places: Iterable[Place]) -> None:
        """Start a round through all *places*, with *known* as the digests of the servers."""
        self._begun = known
        self.remaining = list(places)[::-1]

    def take(self, most: int) -> Iterator[Place]:
        """Remove up to *most* places from the round, and yield them."""
        for _ in range(most):
            if self.remaining:
                yield self.remaining.pop()

    def finish(self, known: object, now: float) -> None:
        """Note that the round is complete, if *known* is the same as when it started."""
        if known == self._begun:
            self._finished = known, now

    def is_finished(self, known: object, now: float) -> bool:
        """Return whether a round over the same *known* was completed within the last hour."""
        if self._finished is None:
            return False
        before, then = self._finished
        return before == known and now - then < _COMPARE_AGAIN


@define
class Objects(Round):
    """Results of the check of objects in chunks.

    :ivar broken: ids of the objects that lack chunks, by place.
    """

    broken: dict[Place, frozenset[str]] = field(init=False, factory=dict)

    def take(self, most: int) -> Iterator[Place]:
        """Yield all places with broken objects, and up to *most* places of the round."""
        yield from list(self.broken)
        yield from super().take(most)

    def note(self, place: Place, broken: Iterable[str], sure: bool) -> None:
        """Note the *broken* objects at *place*; unless *sure*, keep those known before as well."""
        found = frozenset(broken) | (frozenset() if sure else self.broken.get(place, frozenset()))
        if found:
            self.broken[place] = found
        else:
            self.broken.pop(place, None)


@define
class PassState:
    """State that one pass leaves for the next.

    :param hints: partitions to compare first.
    :param away_seconds: seconds to wait for a server that does not answer before its copies
        are made elsewhere.
    :param incremental: whether a pass checks only some objects, and compares only some
        partitions across groups, and the next pass continues.
    :ivar objects: the check of objects in chunks.
    :ivar across: the comparison across groups.
    """

    hints: Hints = field(factory=set)
    away_seconds: float = 0.0
    incremental: bool = False
    objects: Objects = field(init=False, factory=Objects)
    across: Round = field(init=False, factory=Round)
    _disputed: dict[tuple[str, str], float] = field(init=False, factory=dict)
    _away_since: dict[str, float] = field(init=False, factory=dict)
    _in_sync: dict[tuple[str, str], tuple[object, int, float]] = field(init=False, factory=dict)
    _resting: dict[str, tuple[object, Found | None, float]] = field(init=False, factory=dict)

    # Servers.

    def seen(self, name: str) -> None:
        """Note that the server *name* answered."""
        self._away_since.pop(name, None)

    def missed(self, name: str, now: float) -> None:
        """Note that the server *name* did not answer at the time *now*."""
        self._away_since.setdefault(name, now)

    def is_expected(self, name: str, now: float) -> bool:
        """Return whether to wait for a server that does not answer."""
        return now - self._away_since.get(name, now) < self.away_seconds

    # Partitions.

    def mark_in_sync(
        self, group: str, partition: str, known: object, short: int, now: float
    ) -> None:
        """Note that a partition needs no work while *known*, its state, stays the same.

        Servers can hold a partition differently for good: a read-only one keeps its copies.

        :param short: number of its blobs that have too few copies.
        """
        self._in_sync[group, partition] = known, short, now

    def known_short(self, group: str, partition: str, known: object, now: float) -> int | None:
        """Return the *short* noted for the same *known* in the last hour, None if none was."""
        before, short, then = self._in_sync.get((group, partition), (None, 0, 0.0))
        return short if before == known and now - then < _COMPARE_AGAIN else None

    # Blobs.

    def dispute(self, group: str, id: str, now: float) -> None:
        """Note that servers of *group* hold different bodies under *id*."""
        self._disputed[group, id] = now

    def is_disputed(self, group: str, id: str, now: float) -> bool:
        """Return whether a dispute was noted in the last hour: the pass then skips this id."""
        return now - self._disputed.get((group, id), -_COMPARE_AGAIN) < _COMPARE_AGAIN

    # Groups.

    def mark_unchanged(self, group: str, known: object, found: Found, now: float) -> None:
        """Note that *group* needs no work while *known*, its state, stays the same."""
        self._resting[group] = known, found, now

    def unchanged(self, group: str, known: object, now: float) -> Found | None:
        """Return the *found* noted for the same *known* in the last hour, None if none was."""
        before, found, then = self._resting.get(group, (None, None, 0.0))
        return found if before == known and now - then < _COMPARE_AGAIN else None

    def take_hints(self, group: str) -> set[str]:
        """Remove the hints for *group*, and return their partitions."""
        found = {hint for hint in self.hints if hint[0] == group}
        self.hints -= found
        return {partition for _, partition in found}
