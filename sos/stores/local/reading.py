"""Bodies that have files of their own, read back and verified."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from attrs import define

from sos.digest import BodyDigest
from sos.errors import Mismatch, Unavailable
from sos.interfaces import Span
from sos.stores.lane import Lane
from sos.stores.local.body_file import (
    BLOCK,
    BlockHashes,
    Blocks,
    Unreadable,
    complete,
    open_body,
    reading,
)
from sos.stores.record import Damaged, Record

# Bytes of a file that are read, and then sent from it, at once: four blocks.
_SPAN_SIZE = 4 * BLOCK


def verify_body(path: Path, record: Record) -> Blocks:
    """Return the blocks of the body of *record* in the file *path*, all of which is verified.

    Raises as :func:`open_body` does, and Damaged when it is not that body.
    """
    file, blocks = open_body(path, record)
    with file:
        found = verify_file(file, record)
        if blocks != found:
            complete(path, file, record, found.hashes)
    return found


def verify_file(file: BinaryIO, record: Record) -> Blocks:
    """Return the blocks of the body of *record* in an open file; raises as verify_body does."""
    digest, hashes = BodyDigest(record.id), BlockHashes()
    with reading():
        while piece := os.pread(file.fileno(), min(BLOCK, record.size - digest.size), digest.size):
            digest.update(piece)
            hashes.update(piece)
    _check(digest, record)
    return Blocks(hashes.value())


def _check(digest: BodyDigest, record: Record) -> None:
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")


@define
class FileBody:
    """An open body, or a part of it: its pieces, or the spans of the file where they lie.

    A part is verified block by block.  The whole is verified by its id, too: the last of it
    comes only once all match.  While one piece is sent the next is read.

    :param blocks: None where they have no hashes yet: then it has to be the whole.
    :param failed: called with what is wrong with it: Damaged or Unreadable.
    """

    _path: Path
    _file: BinaryIO
    _blocks: Blocks | None
    _record: Record
    _span: Span | None
    _lane: Lane
    _failed: Callable[[Damaged | Unreadable], Awaitable[object]]

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for _, piece in self._windows(BLOCK):
            yield piece

    async def spans(self) -> AsyncGenerator[Span, None]:
        """Tell which parts of the file can be sent; what is in them has been read before."""
        async for start, piece in self._windows(_SPAN_SIZE):
            stop = start + len(piece)
            del piece  # or a slow reader would cost the memory of it
            yield start, stop

    async def _windows(self, size: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Give the part, from where on it is, in pieces of up to *size* bytes, whole blocks."""
        position, stop = self._span or (0, self._record.size)
        digest, hashes = BodyDigest(self._record.id), BlockHashes()

        def read(position: int) -> bytes:
            # Blocks are verified as wholes.
            begin = position - position % BLOCK
            end = min(begin + size, -(-stop // BLOCK) * BLOCK, self._record.size)
            with reading():
                piece = os.pread(self._file.fileno(), end - begin, begin)
            if len(piece) < end - begin:
                raise Unreadable("the file became shorter")
            if self._blocks is not None:
                self._blocks.verify(begin, piece)
            else:
                hashes.update(piece)
            if self._span is None:
                digest.update(piece)
                if end == self._record.size:
                    _check(digest, self._record)
                    if self._blocks is None:
                        complete(self._path, self._file, self._record, hashes.value())
            return piece[position - begin : stop - begin]

        ahead = self._lane.run(read, position)
        try:
            while position < stop:
                try:
                    piece = await ahead
                except (Damaged, Unreadable) as error:
                    raise await self._failure(error) from error
                start, position = position, position + len(piece)
                if position < stop:
                    ahead = self._lane.run(read, position)
                window = start, piece
                del piece
                yield window
                del window
        finally:
            ahead.addErrback(lambda _: None)

    async def _failure(self, error: Damaged | Unreadable) -> Exception:
        await self._failed(error)
        if isinstance(error, Damaged):
            return Mismatch(f"the stored copy of {self._record.id} is damaged: {error}")
        return Unavailable(f"the stored copy of {self._record.id} cannot be read: {error}")

    async def aclose(self) -> None:
        self._lane.afterwards(self._file.close)
