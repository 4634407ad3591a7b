"""What a replication knows from one pass to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field

#: Seconds for which a server that is away is expected back, and its copies are
#: not made anew elsewhere.
AWAY_SECONDS = 600.0
# Seconds after which what was compared is compared again.
_COMPARE_AGAIN = 3600.0


#: Groups and partitions of which a copy is known to be missing.
Hints = set[tuple[str, str]]

#: A group and a partition of it; no group where it is that of all.
Place = tuple[str, str]

#: What there is in a group: blobs, and those that want more servers.
Found = tuple[int, int]


@define
class Turns:
    """What is gone through in turns, some of it in each pass, and rests while nothing changes.

    :ivar remaining: where is still to be looked, before it is begun anew.
    """

    remaining: list[Place] = field(init=False, factory=list)
    _begun: object = field(init=False, default=None)
    _settled: tuple[object, float] | None = field(init=False, default=None)

    def begin(self, known: object, places: Iterable[Place]) -> None:
        """Look at all *places*, while *known* is what there is."""
        self._begun = known
        self.remaining = list(places)[::-1]

    def turn(self, most: int) -> Iterator[Place]:
        """Take *most* places to look at."""
        for _ in range(most):
            if self.remaining:
                yield self.remaining.pop()

    def settle(self, known: object, now: float) -> None:
        """Note that all was looked at, if *known* is what there was when that was begun."""
        if known == self._begun:
            self._settled = known, now

    def is_settled(self, known: object, now: float) -> bool:
        """Tell whether that was noted of what is *known*, not too long ago."""
        if self._settled is None:
            return False
        before, then = self._settled
        return before == known and now - then < _COMPARE_AGAIN


@define
class Objects(Turns):
    """What is remembered of the objects that are in chunks.

    :ivar broken: those of which chunks are gone, by where they are.
    """

    broken: dict[Place, frozenset[str]] = field(init=False, factory=dict)

    def turn(self, most: int) -> Iterator[Place]:
        """Take places to look at: all that were found to hold what is broken, and *most* more."""
        yield from list(self.broken)
        yield from super().turn(most)

    def note(self, place: Place, broken: Iterable[str], sure: bool) -> None:
        """Note what was found at *place*; unless that is *sure*, what was known stays."""
        found = frozenset(broken) | (frozenset() if sure else self.broken.get(place, frozenset()))
        if found:
            self.broken[place] = found
        else:
            self.broken.pop(place, None)


@define
class Memory:
    """What passes remember; without it each begins anew.

    :param patience: seconds for which a server that is away is expected back.
    :param in_turn: whether a pass looks for the chunks of some objects alone, when
        there are many, and the next goes on with others.
    :ivar objects: what was found of those.
    :ivar across: what of several groups was compared.
    """

    hints: Hints = field(factory=set)
    patience: float = 0.0
    in_turn: bool = False
    objects: Objects = field(init=False, factory=Objects)
    across: Turns = field(init=False, factory=Turns)
    _disputed: dict[tuple[str, str], float] = field(init=False, factory=dict)
    _away_since: dict[str, float] = field(init=False, factory=dict)
    _settled: dict[tuple[str, str], tuple[object, int, float]] = field(init=False, factory=dict)
    _resting: dict[str, tuple[object, Found | None, float]] = field(init=False, factory=dict)

    # Servers.

    def seen(self, name: str) -> None:
        """Note that the server *name* has answered."""
        self._away_since.pop(name, None)

    def missed(self, name: str, now: float) -> None:
        """Note that the server *name* has not answered at the time *now*."""
        self._away_since.setdefault(name, now)

    def is_expected(self, name: str, now: float) -> bool:
        """Tell whether a server that is away should be waited for."""
        return now - self._away_since.get(name, now) < self.patience

    # Partitions.

    def settle(self, group: str, partition: str, known: object, short: int, now: float) -> None:
        """Note that nothing is to be done for a partition while *known* of it is the same.

        Servers can hold a partition differently for good: one that is only
        read from keeps what it has.

        :param short: blobs of it that have too few copies.
        """
        self._settled[group, partition] = known, short, now

    def settled(self, group: str, partition: str, known: object, now: float) -> int | None:
        """Return how many were *short*, None if that was not noted of what is *known* lately."""
        before, short, then = self._settled.get((group, partition), (None, 0, 0.0))
        return short if before == known and now - then < _COMPARE_AGAIN else None

    # Blobs.

    def dispute(self, group: str, id: str, now: float) -> None:
        """Note that servers of *group* hold different bodies under *id*."""
        self._disputed[group, id] = now

    def is_disputed(self, group: str, id: str, now: float) -> bool:
        """Tell whether that was noted lately: then nothing is done about it, nor told again."""
        return now - self._disputed.get((group, id), -_COMPARE_AGAIN) < _COMPARE_AGAIN

    # Groups.

    def rest(self, group: str, known: object, found: Found, now: float) -> None:
        """Note that nothing is to be done in *group* while *known* of it is the same."""
        self._resting[group] = known, found, now

    def rested(self, group: str, known: object, now: float) -> Found | None:
        """Return what was *found* then, None if that was not noted of what is *known* lately."""
        before, found, then = self._resting.get(group, (None, None, 0.0))
        return found if before == known and now - then < _COMPARE_AGAIN else None

    def take_hints(self, group: str) -> set[str]:
        """Return the partitions of *group* that have hints, and forget these."""
        found = {hint for hint in self.hints if hint[0] == group}
        self.hints -= found
        return {partition for _, partition in found}
