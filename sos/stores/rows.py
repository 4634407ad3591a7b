"""The rows of an index that may be damaged, read by a process of their own.

Where pages are missing, or hold what LMDB does not expect, to read can kill the process: by
SIGBUS behind the end of the file, or by an assertion of LMDB's.  Then it is another one that
is killed; the next begins behind the place.  Nothing is changed, and no lock taken.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

_DATABASES = 8
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"
# How far to go on behind a place that cannot be read, each once the one before has not led out
# of it: so many bytes of a key with letters are the same from one place to the next...
_DEPTHS = (7, 3, 2, 1)
# ... and numbers are so far apart.
_STEPS = (1, 1 << 10, 1 << 20, 1 << 62)
# Places in a row that cannot be read, before it goes on further.
_PATIENCE = 1000
# Of a record's row: the key of its inline body, or zeros.
_NUMBER_BYTES = 8


class Row(NamedTuple):
    """One row.

    :ivar body: the inline body that belongs to it, where bodies are asked for.
    """

    key: bytes
    value: bytes
    body: bytes | None


class Fault(NamedTuple):
    """Rows that cannot be read, as many as there are in one place; says why."""

    reason: str


class Extent(NamedTuple):
    """What an index says of itself.

    :ivar transaction: the number of its last transaction.
    :ivar size: bytes of all its pages; the last can be missing where they are free.
    """

    transaction: int
    size: int


def extent(directory: Path) -> Extent | Fault:
    """Return what the index in *directory* says of itself, or why it cannot be opened."""
    for message in _messages(directory, "", b"", 0, ""):
        match message:
            case "opened", transaction, size:
                return Extent(transaction, size)
            case "closed", reason:
                return Fault(reason)
    return Fault("to open it kills the process")


def walk(
    directory: Path, database: str, bodies: bool = False, values: bool = True
) -> Iterator[Row | Fault]:
    """Give the rows of a *database* of the index in *directory*, and a fault where some are not.

    :param bodies: whether the rows are records, and come with their inline bodies.
    :param values: False leaves out what the rows hold.
    """
    take = "bodies" if bodies else "all" if values else "keys"
    start: bytes | None = b""
    level = 0
    faulty = False
    while start is not None:
        row: Row | None = None
        for message in _messages(directory, database, start, level, take):
            match message:
                case "row", key, value:
                    if row is not None:
                        yield row
                    start, level, faulty = key + b"\0", 0, False
                    row = Row(key, value, None)
                case "body", body:
                    assert row is not None
                    yield row._replace(body=body)
                    row = None
                case "fault", at, reason:
                    if not faulty:
                        yield Fault(reason)
                    start, faulty = at, True
                case "closed", reason:
                    yield Fault(reason)
                    return
                case ("end",):
                    if row is not None:
                        yield row
                    return
                case "killed", name:
                    if row is not None:
                        yield row
                        if bodies and any(row.value[:_NUMBER_BYTES]):
                            break  # to read its body did it
                    if not faulty:
                        yield Fault(f"to read it kills the process ({name})")
                    faulty = True
                    start = None if start is None else behind(start, level, database)
                    level = min(level + 1, len(_DEPTHS) - 1)


def _messages(
    directory: Path, database: str, start: bytes, level: int, take: str
) -> Iterator[tuple[Any, ...]]:
    """Give what a process says that reads from *start* on, and how it was killed if it was."""
    arguments = [str(directory), database, start.hex(), str(level), take]
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sos.stores.rows", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        with suppress(EOFError, ValueError, TypeError):  # it was killed in a message, at worst
            while True:
                message = marshal.load(process.stdout)
                yield message
                if message[0] in ("end", "closed"):
                    return
        status = process.wait()
        yield "killed", signal.Signals(-status).name if status < 0 else f"exit status {status}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def behind(start: bytes, level: int, database: str) -> bytes | None:
    """Return where to go on when nothing can be read at *start*, None if that is behind the end.

    :param level: how often in a row it has come to nothing.
    """
    if database != "records":
        number = int.from_bytes(start[:_NUMBER_BYTES].ljust(_NUMBER_BYTES, b"\0"))
        number += _STEPS[level]
        return number.to_bytes(_NUMBER_BYTES) if number < 1 << 64 else None
    prefix = start[: _DEPTHS[level]].ljust(_DEPTHS[level], _DIGITS[:1])
    while prefix:
        for digit in _DIGITS:
            if digit > prefix[-1]:
                return prefix[:-1] + bytes([digit])
        prefix = prefix[:-1]
    return None


def _main(directory: str, database: str, start: str, level: str, take: str) -> None:
    try:
        environment = lmdb.open(
            directory, readonly=True, lock=False, create=False, max_dbs=_DATABASES
        )
        info = environment.info()
        pages = info["last_pgno"] + 1
        _say("opened", info["last_txnid"], pages * environment.stat()["psize"])
        if not database:
            return
        rows = environment.open_db(database.encode(), create=False)
        inline = environment.open_db(b"bodies", create=False) if take == "bodies" else None
        _walk(environment, rows, inline, database, bytes.fromhex(start), int(level), take)
    except lmdb.Error as error:
        _say("closed", str(error))


def _walk(
    environment: lmdb.Environment,
    rows: Any,
    inline: Any,
    database: str,
    begin: bytes,
    level: int,
    take: str,
) -> None:
    start: bytes | None = begin
    failures = 0
    in_body = False
    while start is not None:
        # No transaction is of use any more in which something could not be read.
        with environment.begin(rows) as transaction, transaction.cursor() as cursor:
            try:
                while cursor.set_range(start) if start else cursor.first():
                    key = bytes(cursor.key())
                    if key < start:
                        raise lmdb.CorruptedError("rows are not in order")
                    value = b"" if take == "keys" else bytes(cursor.value())
                    _say("row", key, value)
                    start, level, failures = key + b"\0", 0, 0
                    number = value[:_NUMBER_BYTES]
                    if inline is not None and any(number):
                        in_body = True
                        _say("body", transaction.get(number, db=inline))
                        in_body = False
            except lmdb.Error as error:
                if in_body:
                    _say("body", None)
                    in_body = False
                    continue
                failures += 1
                if failures % _PATIENCE == 0:
                    level = min(level + 1, len(_DEPTHS) - 1)
                start = behind(start, level, database)
                _say("fault", start, str(error))
            else:
                break
    _say("end")


def _say(*message: Any) -> None:
    # Whole, and at once, for the next step may be the last.
    data = marshal.dumps(message)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    _main(*sys.argv[1:])
