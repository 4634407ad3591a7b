"""Requests that were accepted already, and must not be a second time.

Each signed request carries the number of its client, chosen at random, and its own
number among those that this client has signed.  What was accepted is one bit of it,
in blocks of neighbours: ten minutes of ten thousand requests a second are some
6000 blocks.
"""

from __future__ import annotations

from attrs import define

#: Most blocks that are remembered, of some 400 bytes each.
MOST_BLOCKS = 16_384

_BITS = 1024


@define
class _Block:
    seen: int
    newest: int


class Replays:
    """Remembers requests while their dates would be accepted.

    Where that would take over *most* blocks those that are oldest are forgotten,
    and from then on nothing is admitted that is dated as they are: so what is
    forgotten is never admitted again.

    :param most: blocks that are remembered.
    """

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks: dict[tuple[bytes, int], _Block] = {}
        self._floor: float = float("-inf")

    def __len__(self) -> int:
        return len(self._blocks)

    def admit(self, client: bytes, number: int, date: int, oldest: float) -> bool:
        """Remember a request, and tell whether it is new.

        :param date: of the request, which the caller has found recent.
        :param oldest: date of the oldest request that is still recent.
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
        """Forget what is too old anyway; if that is too little, the older half."""
        kept = {place: each for place, each in self._blocks.items() if each.newest >= oldest}
        if len(kept) > self._most // 2:
            dates = sorted(each.newest for each in kept.values())
            self._floor = dates[len(dates) // 2]
            kept = {place: each for place, each in kept.items() if each.newest > self._floor}
        self._blocks = kept
