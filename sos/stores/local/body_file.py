"""The file of a body: the body, and behind it what is needed without the index.

::

    body | hash of each block | record | id | numbers

The hashes let a part be verified without the rest, the record and the id let an index be made
anew.  A file from before all this is its body and no more, until that is read as a whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from attrs import evolve, frozen
from xxhash import xxh3_128, xxh3_128_digest

from sos.errors import InvalidId
from sos.files.regular import open_regular
from sos.model import ids
from sos.stores import record as records
from sos.stores.disk_errors import disk_errors, is_of_process
from sos.stores.received import write_at
from sos.stores.record import Damaged, Encoded, Record

#: Bytes that are hashed by themselves; the last block can be shorter.
BLOCK = 256 * 1024
_HASH_BYTES = 16
# size of the body, lengths of the record and of the id, hash of all that comes behind the body
_NUMBERS = struct.Struct("<QIH16s8s")
_MAGIC = b"SOS body"


class Unreadable(Exception):
    """The disk does not give back what it has, or has not got, of a body; says why."""


class BlockHashes:
    """The hashes of the blocks of a body, as it passes by."""

    def __init__(self) -> None:
        self._finished: list[bytes] = []
        self._block = xxh3_128()
        self._room = BLOCK

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
                self._room = BLOCK

    def value(self) -> bytes:
        """Return them, one behind the other."""
        last = [] if self._room == BLOCK else [self._block.digest()]
        return b"".join([*self._finished, *last])


@frozen
class Blocks:
    """The blocks of a body that is stored.

    :param hashes: as :meth:`BlockHashes.value` returns them.
    """

    hashes: bytes

    def verify(self, start: int, piece: bytes) -> None:
        """Raise Damaged unless *piece*, whole blocks from byte *start* on, is what was stored."""
        number = start // BLOCK
        for begin in range(0, len(piece), BLOCK):
            block = memoryview(piece)[begin : begin + BLOCK]
            expected = self.hashes[number * _HASH_BYTES : (number + 1) * _HASH_BYTES]
            if xxh3_128_digest(block) != expected:
                raise Damaged(f"the block at byte {start + begin} does not match its hash")
            number += 1


def write_trailer(file: IO[bytes], record: Record, hashes: bytes) -> None:
    """Write what comes behind the body of *record*, whose blocks have these *hashes*."""
    # It may have been marked, and has just been read.
    head, id = records.encode(evolve(record, readable=True)).head, record.id.encode("ascii")
    covered = hashes + head + id
    numbers = (record.size, len(head), len(id), xxh3_128_digest(covered), _MAGIC)
    written = write_at(file, covered + _NUMBERS.pack(*numbers), record.size)
    os.truncate(file.fileno(), written)


def read_trailer(file: BinaryIO) -> tuple[Record, Blocks] | None:
    """Return what comes behind the body in *file*; None where that is nothing, or damaged."""
    end = os.fstat(file.fileno()).st_size
    numbers = os.pread(file.fileno(), _NUMBERS.size, max(end - _NUMBERS.size, 0))
    if len(numbers) < _NUMBERS.size or not numbers.endswith(_MAGIC):
        return None
    size, head_length, id_length, hash, _ = _NUMBERS.unpack(numbers)
    hashes_length = -(-size // BLOCK) * _HASH_BYTES
    length = hashes_length + head_length + id_length
    if size + length + _NUMBERS.size != end:
        return None
    covered = os.pread(file.fileno(), length, size)
    if xxh3_128_digest(covered) != hash:
        return None
    head, id = covered[hashes_length:][:head_length], covered[hashes_length + head_length :]
    try:
        record = records.decode(ids.check(id.decode("latin-1")), Encoded(head, None))
    except (InvalidId, Damaged):
        return None
    return record, Blocks(covered[:hashes_length])


def open_body(path: Path, record: Record) -> tuple[BinaryIO, Blocks | None]:
    """Open the body of *record*, which is the file *path*.

    Returns its blocks as well, if their hashes stand behind it.  Raises Damaged when it is cut
    short, Unreadable when the disk does not give it, Unavailable when this process cannot open
    it now.
    """
    with reading():
        file = open_regular(path)
        try:
            size = os.fstat(file.fileno()).st_size
            if size < record.size:
                raise Damaged(f"the body is of {size} bytes, {record.size} were stored")
            found = read_trailer(file) if size > record.size else None
            if found is None or not _describes(found[0], record):
                return file, None
            return file, found[1]
        except BaseException:
            file.close()
            raise


def _describes(written: Record, record: Record) -> bool:
    # The metadata can have been settled since.
    return (written.id, written.size, written.hash) == (record.id, record.size, record.hash)


def complete(path: Path, body: BinaryIO, record: Record, hashes: bytes) -> None:
    """Write what is missing behind the verified *body*, as far as that can be written.

    It need not last: what is torn by a crash is written again.
    """
    with suppress(OSError), open_regular(path, os.O_RDWR) as file:
        if os.path.sameopenfile(file.fileno(), body.fileno()):  # else another has its place
            write_trailer(file, record, hashes)


@contextmanager
def reading() -> Iterator[None]:
    """Raise Unreadable for what the disk refuses to a reader, but Unavailable for the process."""
    try:
        yield
    except OSError as error:
        if is_of_process(error):
            with disk_errors():
                raise
        missing = isinstance(error, FileNotFoundError)
        raise Unreadable("its file is missing" if missing else str(error)) from error
