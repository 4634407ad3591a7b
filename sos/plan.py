"""Which copies a group lacks: pure, from listings to steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import lru_cache, partial

from attrs import frozen

from sos import ids
from sos.placement import rank


@frozen
class Copy:
    """Bring the blob *id* from one of *sources* to all of *targets*.

    Both are names of servers, in the order in which to try them.
    """

    id: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def plan(
    listings: Mapping[str, Set[str]], min_copies: int, weights: Mapping[str, float]
) -> Iterator[Copy]:
    """Yield the copies after which each blob is on *min_copies* servers.

    :param listings: the ids that each server of one group holds, by its name.
        A server whose listing is not known is left out: it is neither counted
        nor written to.
    :param weights: those of the servers that can be written to; what others
        hold counts as a copy.
    """
    order = lru_cache(maxsize=4096)(partial(rank, weights))
    for id in sorted(frozenset().union(*listings.values()), key=ids.sort_key):
        holders = tuple(sorted(name for name, held in listings.items() if id in held))
        missing = min_copies - len(holders)
        if missing > 0:
            ranked = order(ids.partition(id))
            lacking = [name for name in ranked if name in listings and name not in holders]
            if lacking:
                yield Copy(id, holders, tuple(lacking[:missing]))
