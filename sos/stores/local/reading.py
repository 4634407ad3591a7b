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
from sos.stores.disk_errors import disk_errors
from sos.stores.lane import Lane
from sos.stores.record import Damaged, Record

_READ_SIZE = 256 * 1024
# Bytes of a file that are read, and then sent from it, at once.
_SPAN_SIZE = 1024 * 1024


def open_body(path: Path, record: Record) -> BinaryIO:
    """Open the body of *record*, which is the file *path*.

    Raises Damaged when the file is missing or of another size, Unavailable
    when it cannot be opened.
    """
    with disk_errors():
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise Damaged("the file of the body is missing") from None
        size = file.seek(0, 2)
        file.seek(0)
    if size != record.size:
        file.close()
        raise Damaged(f"the body is of {size} bytes, {record.size} were stored")
    return file


def verify_body(path: Path, record: Record) -> None:
    """Raise Damaged unless *path* holds the body that was stored as *record*."""
    digest = BodyDigest(record.id)
    with open_body(path, record) as file, disk_errors():
        while piece := file.read(_READ_SIZE):
            digest.update(piece)
    _check(digest, record)


def _check(digest: BodyDigest, record: Record) -> None:
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")


@define
class FileBody:
    """An open body, or a part of it: its pieces, or the spans of the file where they lie.

    The whole is verified: the last of it comes only once all match the hash.
    While one piece is sent the next is read.

    :param damaged: called with the reason when they do not.
    """

    _file: BinaryIO
    _record: Record
    _span: Span | None
    _lane: Lane
    _damaged: Callable[[str], Awaitable[object]]

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for _, piece in self._windows(_READ_SIZE):
            yield piece

    async def spans(self) -> AsyncGenerator[Span, None]:
        """Tell which parts of the file can be sent; what is in them has been read before."""
        async for start, piece in self._windows(_SPAN_SIZE):
            stop = start + len(piece)
            del piece  # or a slow reader would cost the memory of it
            yield start, stop

    async def _windows(self, size: int) -> AsyncGenerator[tuple[int, bytes], None]:
        position, stop = self._span or (0, self._record.size)
        digest = BodyDigest(self._record.id)

        def read(position: int) -> bytes:
            with disk_errors():
                piece = os.pread(self._file.fileno(), min(size, stop - position), position)
            if self._span is None:
                digest.update(piece)
            return piece

        ahead = self._lane.run(read, position)
        try:
            while position < stop:
                piece = await ahead
                if not piece:
                    raise Unavailable("the body is shorter than it was")
                start, position = position, position + len(piece)
                if position < stop:
                    ahead = self._lane.run(read, position)
                elif self._span is None:
                    await self._verify(digest)
                window = start, piece
                del piece
                yield window
                del window
        finally:
            ahead.addErrback(lambda _: None)

    async def _verify(self, digest: BodyDigest) -> None:
        try:
            _check(digest, self._record)
        except Damaged as damage:
            await self._damaged(str(damage))
            raise Mismatch(f"the stored copy of {self._record.id} is damaged: {damage}") from damage

    async def aclose(self) -> None:
        self._lane.afterwards(self._file.close)
