"""Read and verify bodies that are in files."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from attrs import define

from sos.aio.pieces import ReadAhead
from sos.aio.threads import ThreadJobs
from sos.errors import Mismatch, Replaced, Unavailable
from sos.interfaces import Span
from sos.model.digest import BodyDigest
from sos.stores.block_hashes import BLOCK, BlockHashes, Blocks
from sos.stores.disk_errors import disk_errors
from sos.stores.local.body_file import (
    Unreadable,
    open_body,
    reading,
    write_missing_trailer,
)
from sos.stores.record import Damaged, Record

# Bytes that are verified and then sent from the file in one step: four blocks.
_SPAN_SIZE = 4 * BLOCK


def ignore_piece(piece: bytes) -> None:
    """Ignore a verified *piece*."""


def verify_body(
    path: Path, record: Record, passed: Callable[[bytes], None] = ignore_piece
) -> Blocks:
    """Verify the whole body of *record* in the file *path*, and return its blocks.

    A trailer that is missing or wrong is written.  Raises as :func:`open_body` does, and
    Damaged if the body does not match *record*.

    :param passed: called with each piece of the body.
    """
    file, blocks = open_body(path, record)
    with file:
        found = verify_file(file, record, passed)
        if blocks != found:
            write_missing_trailer(path, file, record, found.hashes)
    return found


def verify_file(
    file: BinaryIO, record: Record, passed: Callable[[bytes], None] = ignore_piece
) -> Blocks:
    """Verify the whole body of *record* in an open file, and return its blocks.

    :param passed: called with each piece of the body.
    :raises Damaged: if the body does not match *record*.
    :raises Unreadable: if the disk does not return it.
    """
    digest, hashes = BodyDigest(record.id), BlockHashes()
    while digest.size < record.size:
        with reading():
            size = min(BLOCK, record.size - digest.size)
            piece = os.pread(file.fileno(), size, digest.size)
        if not piece:
            break
        digest.update(piece)
        hashes.update(piece)
        passed(piece)
    _check(digest, record)
    return Blocks(hashes.value())


class Comparison:
    """A comparison of a stored body, piece by piece, with the body of *new*.

    :param incoming: the file with the body of *new*, if that is not inline; the comparison
        is a context manager, which opens and closes it.
    """

    def __init__(self, new: Record, incoming: Path | None) -> None:
        self._new = new
        self._incoming = incoming
        self._file: BinaryIO | None = None
        self._differs = False
        self._passed = 0

    def __enter__(self) -> Comparison:
        if self._new.body is None:
            assert self._incoming is not None
            with disk_errors():
                self._file = self._incoming.open("rb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def update(self, piece: bytes) -> None:
        """Compare the next *piece*.  Raises Unavailable if *incoming* cannot be read."""
        if not self._differs:
            self._differs = piece != self._received(len(piece))
        self._passed += len(piece)

    def _received(self, size: int) -> bytes:
        if self._file is None:
            assert self._new.body is not None
            return self._new.body[self._passed : self._passed + size]
        with disk_errors():
            return os.pread(
                self._file.fileno(), min(size, self._new.size - self._passed), self._passed
            )

    @property
    def same(self) -> bool:
        """Whether the pieces so far are the whole body of *new*."""
        return not self._differs and self._passed == self._new.size


def _check(digest: BodyDigest, record: Record) -> None:
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")


@define
class FileBody:
    """An open body, or a part of it, as pieces or as spans of the file.

    Each block is verified by its hash before any of it is yielded; the hash was taken when the
    body was stored and matched its id.  A body of an earlier version has no block hashes: it is
    compared with its id before its last piece is yielded, and then gets them.  The next piece
    is read while one is sent.

    :param blocks: None for a body without block hashes, which must be read whole.
    :param thorough: compare a body that is read whole with its id even if it has block hashes.
    :param failed: called with the error if reading fails: Damaged or Unreadable; returns False
        if the record of the body has been replaced.
    """

    _path: Path
    _file: BinaryIO
    _blocks: Blocks | None
    _record: Record
    _span: Span | None
    _thorough: bool
    _jobs: ThreadJobs
    _failed: Callable[[Damaged | Unreadable], Awaitable[bool]]

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for _, piece in self._windows(BLOCK):
            yield piece

    async def spans(self) -> AsyncGenerator[Span, None]:
        """Yield the spans of the file that can be sent, each after its bytes are verified."""
        async for start, piece in self._windows(_SPAN_SIZE):
            stop = start + len(piece)
            del piece  # else it stays in memory while a slow client receives it
            yield start, stop

    async def _windows(self, size: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield position and bytes of pieces of the span, verified.

        :param size: most bytes of a piece, a multiple of the block size.
        """
        start, stop = self._span or (0, self._record.size)
        digest, hashes = BodyDigest(self._record.id), BlockHashes()
        by_id = self._blocks is None or (self._thorough and self._span is None)

        def read(position: int) -> bytes:
            # Only a whole block can be verified.
            begin = position - position % BLOCK
            end = min(begin + size, -(-stop // BLOCK) * BLOCK, self._record.size)
            with reading():
                piece = os.pread(self._file.fileno(), end - begin, begin)
            if len(piece) < end - begin:
                raise Unreadable("the file was truncated while it was read")
            if self._blocks is not None:
                self._blocks.verify(begin, piece)
            else:
                hashes.update(piece)
            if by_id:
                digest.update(piece)
                if end == self._record.size:
                    _check(digest, self._record)
                    if self._blocks is None:
                        write_missing_trailer(self._path, self._file, self._record, hashes.value())
            return piece[position - begin : stop - begin]

        starts = chain((start,), range(start - start % BLOCK + size, stop, size))
        reads = (self._jobs.run(read, each) for each in starts)
        try:
            async with aclosing(ReadAhead(reads)) as pieces:
                async for piece in pieces:
                    window = start, piece
                    start += len(piece)
                    del piece  # else it stays in memory while the next one is awaited
                    yield window
                    del window
        except (Damaged, Unreadable) as error:
            raise await self._failure(error) from error

    async def _failure(self, error: Damaged | Unreadable) -> Exception:
        if not await self._failed(error):
            return Replaced(self._record.id)
        if isinstance(error, Damaged):
            return Mismatch(f"the stored copy of {self._record.id} is damaged: {error}")
        return Unavailable(f"the stored copy of {self._record.id} cannot be read: {error}")

    async def aclose(self) -> None:
        self._jobs.afterwards(self._file.close)
