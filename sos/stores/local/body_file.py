"""The file of a body: the body, and a trailer.

::

    body | hash of each block | record | id | numbers

With the hashes, a part can be verified without the rest.  With the record and the id, ``sos
rebuild`` can build a new index.  A file of an earlier version has no trailer until its body is
read whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from attrs import evolve
from xxhash import xxh3_128_digest

from sos.errors import BodyError, InvalidId
from sos.files.regular import open_regular
from sos.model import ids
from sos.stores import record as records
from sos.stores.block_hashes import BLOCK, HASH_BYTES, Blocks
from sos.stores.disk_errors import disk_errors, is_of_process
from sos.stores.received import write_at
from sos.stores.record import Damaged, Encoded, Record

# size of the body, lengths of the record and of the id, hash of all before it in the trailer,
# magic
_NUMBERS = struct.Struct("<QIH16s8s")
_MAGIC = b"SOS body"


class Unreadable(BodyError):
    """The file of a body is missing, or the disk cannot read it; says why."""


def write_trailer(file: IO[bytes], record: Record, hashes: bytes) -> None:
    """Write the trailer of the body of *record*, whose blocks have these *hashes*."""
    # The record may be marked as unreadable, but the body has just been read.
    head, id = records.encode(evolve(record, readable=True)).head, record.id.encode("ascii")
    covered = hashes + head + id
    numbers = (record.size, len(head), len(id), xxh3_128_digest(covered), _MAGIC)
    written = write_at(file, covered + _NUMBERS.pack(*numbers), record.size)
    os.truncate(file.fileno(), written)


def read_trailer(file: BinaryIO) -> tuple[Record, Blocks] | None:
    """Return the trailer of the body in *file*; None if it is missing or damaged."""
    end = os.fstat(file.fileno()).st_size
    numbers = os.pread(file.fileno(), _NUMBERS.size, max(end - _NUMBERS.size, 0))
    if len(numbers) < _NUMBERS.size or not numbers.endswith(_MAGIC):
        return None
    size, head_length, id_length, hash, _ = _NUMBERS.unpack(numbers)
    hashes_length = -(-size // BLOCK) * HASH_BYTES
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
    """Open the body of *record* in the file *path*, and return it with its blocks.

    The blocks are None without a trailer that matches *record*.  Raises Damaged if the file is
    too short, Unreadable if it is missing or the disk cannot read it, and Unavailable if this
    process lacks files or memory to open it.
    """
    with reading():
        file = open_regular(path)
        try:
            size = os.fstat(file.fileno()).st_size
            if size < record.size:
                raise Damaged(f"the body has {size} bytes, but {record.size} were stored")
            found = read_trailer(file) if size > record.size else None
            if found is None or not _describes(found[0], record):
                return file, None
            return file, found[1]
        except BaseException:
            file.close()
            raise


def _describes(written: Record, record: Record) -> bool:
    # Not the metadata: it may have been reconciled since.
    return (written.id, written.size, written.hash) == (record.id, record.size, record.hash)


def write_missing_trailer(path: Path, body: BinaryIO, record: Record, hashes: bytes) -> None:
    """Write the trailer of the verified *body*, if that is possible.

    It is not synced: a trailer torn by a crash is invalid, and is written again.
    """
    with suppress(OSError), open_regular(path, os.O_RDWR) as file:
        if os.path.sameopenfile(file.fileno(), body.fileno()):  # else the file was replaced
            write_trailer(file, record, hashes)


@contextmanager
def reading() -> Iterator[None]:
    """Raise Unreadable in place of OSError, but Unavailable if the process lacks resources."""
    try:
        yield
    except OSError as error:
        if is_of_process(error):
            with disk_errors():
                raise
        missing = isinstance(error, FileNotFoundError)
        raise Unreadable("its file is missing" if missing else str(error)) from error
