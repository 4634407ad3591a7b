"""Replay protection: a signed request is accepted only once.

Each signed request carries the random number of its client, and its own number among
those that the client has signed.  The cache keeps one bit for each accepted request, in
blocks of consecutive numbers.  Ten minutes at ten thousand requests a second take some
6000 blocks.
"""

from __future__ import annotations

from attrs import define

#: Most blocks in the cache, of some 400 bytes each.
MOST_BLOCKS = 16_384

_BITS = 1024


@define
class _Block:
    seen: int
    newest: int


class ReplayCache:
    """Cache of accepted requests, for as long as their dates would be accepted.

    If that takes more than *most* blocks, the cache drops the oldest ones, and rejects
    all further requests that are dated as they are or earlier.  So a request that was
    dropped from the cache is never admitted again.

    :param most: most blocks in the cache.
    """

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks: dict[tuple[bytes, int], _Block] = {}
        self._floor: float = float("-inf")

    def __len__(self) -> int:
        return len(self._blocks)

    def admit(self, client: bytes, number: int, date: int, oldest: float) -> bool:
        """Record a request; return whether it is new.

        :param date: of the request, in seconds since 1970, already checked.
        :param oldest: the oldest date that is accepted.
        """
        if date <= self._floor:
            return False
        place = client, number // _BITS
        bit = 1 << number % _BITS
        block = self._blocks.get(place)
        if block is None:
            if len(self._blocks) >= self._most:
                self._forget(oldest)
                if date <= self._floor:
                    return False
            self._blocks[place] = _Block(bit, date)
            return True
        if block.seen & bit:
            return False
        block.seen |= bit
        block.newest = max(block.newest, date)
        return True

    def _forget(self, oldest: float) -> None:
        """Drop the expired blocks; if over half of *most* are left, drop the older half."""
        kept = {place: each for place, each in self._blocks.items() if each.newest >= oldest}
        if len(kept) > self._most // 2:
            dates = sorted(each.newest for each in kept.values())
            self._floor = dates[len(dates) // 2]
            kept = {place: each for place, each in kept.items() if each.newest > self._floor}
        self._blocks = kept
