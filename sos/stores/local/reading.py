"""Bodies that have files of their own, read back and verified."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from attrs import define, field

from sos.digest import BodyDigest
from sos.errors import Mismatch, Unavailable
from sos.interfaces import Span
from sos.stores.disk_errors import disk_errors
from sos.stores.lane import Lane
from sos.stores.local.record import Damaged, Record

_READ_SIZE = 256 * 1024


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


async def part_of(file: BinaryIO, span: Span, lane: Lane) -> AsyncGenerator[bytes, None]:
    """Give the pieces of a part of an open body, and close it."""
    position, stop = span

    def read() -> bytes:
        with disk_errors():
            return os.pread(file.fileno(), min(_READ_SIZE, stop - position), position)

    try:
        while position < stop:
            piece = await lane.run(read)
            if not piece:
                raise Unavailable("the body is shorter than it was")
            yield piece
            position += len(piece)
    finally:
        lane.afterwards(file.close)


def _check(digest: BodyDigest, record: Record) -> None:
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")


@define
class BodyPieces:
    """The pieces of an open body; the last comes only once all match the hash.

    :param damaged: called with the reason when they do not.
    """

    _file: BinaryIO
    _record: Record
    _lane: Lane
    _damaged: Callable[[str], Awaitable[None]]
    _digest: BodyDigest = field(init=False)
    _ahead: bytes = field(init=False, default=b"")

    def __attrs_post_init__(self) -> None:
        self._digest = BodyDigest(self._record.id)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._file.closed:
            raise StopAsyncIteration
        if not self._ahead:
            self._ahead = await self._lane.run(self._read)
        piece = self._ahead
        if piece:
            self._ahead = await self._lane.run(self._read)
        if not self._ahead:
            self._file.close()
            try:
                _check(self._digest, self._record)
            except Damaged as damage:
                await self._damaged(str(damage))
                raise Mismatch(f"the stored copy of {self._record.id} is damaged") from damage
        return piece

    def _read(self) -> bytes:
        with disk_errors():
            piece = self._file.read(_READ_SIZE)
        self._digest.update(piece)
        return piece

    async def aclose(self) -> None:
        self._lane.afterwards(self._file.close)
