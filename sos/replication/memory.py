"""What a replication knows from one pass to the next."""

from __future__ import annotations

from attrs import define, field

#: Seconds for which a server that is away is expected back, and its copies are
#: not made anew elsewhere.
AWAY_SECONDS = 600.0
# Seconds after which what was compared is compared again.
_COMPARE_AGAIN = 3600.0


#: Groups and partitions of which a copy is known to be missing.
Hints = set[tuple[str, str]]

#: What there is in a group: blobs, and those that want more servers.
Found = tuple[int, int]


@define
class Memory:
    """What passes remember; without it each begins anew.

    :param patience: seconds for which a server that is away is expected back.
    """

    hints: Hints = field(factory=set)
    patience: float = 0.0
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
