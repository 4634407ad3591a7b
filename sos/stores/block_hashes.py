"""Hashes of the blocks of a body, with which a part can be verified without the rest."""

from __future__ import annotations

from attrs import frozen
from xxhash import xxh3_128, xxh3_128_digest

from sos.stores.record import Damaged

#: Bytes of a block, which has its own hash; the last block can be shorter.
BLOCK = 256 * 1024
#: Bytes of a hash, an XXH3-128.
HASH_BYTES = 16


class BlockHashes:
    """Computes the block hashes of a body, piece by piece.

    :param size: of a block, in bytes.
    """

    def __init__(self, size: int = BLOCK) -> None:
        self._size = size
        self._finished: list[bytes] = []
        self._block = xxh3_128()
        self._room = size

    def update(self, piece: bytes) -> None:
        """Add the next *piece*."""
        rest = memoryview(piece)
        while rest:
            part = rest[: self._room]
            rest = rest[len(part) :]
            self._block.update(part)
            self._room -= len(part)
            if not self._room:
                self._finished.append(self._block.digest())
                self._block.reset()
                self._room = self._size

    def value(self) -> bytes:
        """Return the hashes of all blocks, concatenated."""
        last = [] if self._room == self._size else [self._block.digest()]
        return b"".join([*self._finished, *last])


@frozen
class Blocks:
    """The blocks of a stored body.

    :param hashes: as :meth:`BlockHashes.value` returns them.
    :param size: of a block, in bytes.
    """

    hashes: bytes
    size: int = BLOCK

    def verify(self, start: int, piece: bytes) -> None:
        """Raise Damaged unless *piece*, whole blocks from byte *start* on, matches its hashes."""
        number = start // self.size
        for begin in range(0, len(piece), self.size):
            block = memoryview(piece)[begin : begin + self.size]
            expected = self.hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]
            if xxh3_128_digest(block) != expected:
                raise Damaged(f"the block at byte {start + begin} does not match its hash")
            number += 1
