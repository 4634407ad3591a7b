"""How likely it is that the last copy of something is lost.

The model: servers fail independently of each other, each at the same rate at
any time, with all that they hold; a failed one's copies are made anew, and an
empty server stands in its place, a fixed time later.  A set of servers that
holds all copies of some partition, which Cidon et al. call a copyset
("Copysets", USENIX ATC 2013), is lost when all of it is failed at one moment.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Collection, Sequence
from itertools import combinations

from attrs import frozen

#: In which all times of this module are measured: a year, in seconds.
YEAR = 365.25 * 86400


def loss_rate(sets: float, copies: int, failures: float, years: float) -> float:
    """Return the losses a year of servers in *sets* different copysets, by the closed form.

    One of the servers of a set fails while the others are failed: each of
    these is so for a part *failures* times *years* of the time, as in the
    Markov chain of servers that are up or down.  Good while that part is small.

    :param failures: of a server, in a year.
    :param years: after which a failed server's copies are there again.
    """
    return sets * copies * failures * (failures * years) ** (copies - 1)


def probability(rate: float, years: float = 1.0) -> float:
    """Return how likely one or more of what comes at *rate* a year is within *years*."""
    return -math.expm1(-rate * years)


@frozen
class Simulated:
    """What was seen.

    :param losses: how often a copyset was lost.
    :param years: of one group that were simulated.
    """

    losses: int
    years: float

    def rate(self) -> tuple[float, float]:
        """Return the losses a year, and twice the standard error of that: of one loss at least."""
        return self.losses / self.years, 2 * math.sqrt(max(self.losses, 1)) / self.years


def simulate(
    servers: Sequence[str],
    sets: Collection[frozenset[str]],
    failures: float,
    years: float,
    events: int,
    chance: random.Random,
) -> Simulated:
    """Let the servers of one group fail *events* times, one after the other.

    After a loss all servers are sound again.  The other arguments are those of
    :func:`loss_rate`.
    """
    copies = len(next(iter(sets)))
    down: dict[str, float] = {}
    back: list[tuple[float, str]] = []
    now, losses = 0.0, 0
    for _ in range(events):
        now += chance.expovariate(failures * len(servers))
        while back and back[0][0] <= now:
            down.pop(heapq.heappop(back)[1], None)
        name = servers[int(chance.random() * len(servers))]
        if name in down:  # what is failed cannot fail
            continue
        others = combinations(down, copies - 1)
        if len(down) >= copies - 1 and any(frozenset((name, *each)) in sets for each in others):
            losses += 1
            down.clear()
            back.clear()
        else:
            down[name] = now + years
            heapq.heappush(back, (now + years, name))
    return Simulated(losses, now)
