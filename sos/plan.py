"""Which copies a group lacks: pure, from listings to steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from hashlib import blake2b

from attrs import frozen

from sos import ids


@frozen
class Copy:
    """Bring the blob *id* from one of *sources* to all of *targets*.

    Both are names of servers, in the order in which to try them.
    """

    id: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def plan(
    listings: Mapping[str, Set[str]], min_copies: int, readonly: Set[str] = frozenset()
) -> Iterator[Copy]:
    """Yield the copies after which each blob is on *min_copies* servers.

    :param listings: the ids that each server of one group holds, by its name.
        A server whose listing is not known is left out: it is neither counted
        nor written to.
    :param readonly: servers that can be read from and not written to.  What
        they hold counts as a copy.
    """
    writable = sorted(set(listings) - readonly)
    for id in sorted(frozenset().union(*listings.values()), key=ids.sort_key):
        holders = tuple(sorted(name for name, held in listings.items() if id in held))
        missing = min_copies - len(holders)
        if missing > 0:
            lacking = [name for name in writable if name not in holders]
            lacking.sort(key=lambda name: _score(id, name))
            if lacking:
                yield Copy(id, holders, tuple(lacking[:missing]))


def _score(id: str, name: str) -> bytes:
    """Order servers differently for each partition, and everywhere the same."""
    return blake2b(f"{ids.partition(id)} {name}".encode(), digest_size=8).digest()
