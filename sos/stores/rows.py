"""Read the rows of an index that may be damaged, in a subprocess.

If pages are missing or damaged, reading can kill the process: by SIGBUS past the end of the
file, or by an assertion in LMDB.  That kills only the subprocess, and a new one continues after
the damaged place.  Nothing is changed, and no lock is taken.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

#: Most databases in an index, of any version.
MOST_DATABASES = 8
# The first _DEPTH characters of a record's key, as digits, number its place in the order.
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"
_DEPTH = 8
# Bytes of the key of an inline body, or zeros, at the beginning of a record's row.
_NUMBER_BYTES = 8


class Row(NamedTuple):
    """One row.

    :ivar body: the inline body of the record, if bodies were requested.
    """

    key: bytes
    value: bytes
    body: bytes | None


class Fault(NamedTuple):
    """One or more consecutive rows that cannot be read; says why."""

    reason: str


class Extent(NamedTuple):
    """The extent that an index itself states.

    :ivar transaction: the number of its last transaction.
    :ivar size: bytes of all its pages.  The file can be shorter, if the last pages are free.
    """

    transaction: int
    size: int


def extent(directory: Path) -> Extent | Fault:
    """Return the extent of the index in *directory*, or why it cannot be opened."""
    with closing(_Reader(directory, "", "keys")) as reader:
        match reader.next():
            case "opened", transaction, size:
                return Extent(transaction, size)
            case _, reason:
                return Fault(reason)
    raise AssertionError("it says one of these")


def walk(
    directory: Path, database: str, bodies: bool = False, values: bool = True
) -> Iterator[Row | Fault]:
    """Yield the rows of a *database* of the index in *directory*, with faults between them.

    :param bodies: whether the rows are records, to be yielded with their inline bodies.
    :param values: False yields only the keys.
    """
    take = "bodies" if bodies else "all" if values else "keys"
    with closing(_Reader(directory, database, take)) as reader:
        match reader.next():
            case "opened", *_:
                yield from _rows(reader, database == "records")
            case _, reason:
                yield Fault(reason)


def _rows(reader: _Reader, of_ids: bool) -> Iterator[Row | Fault]:
    start: bytes | None = b""
    while start is not None:
        reader.ask(start, False)
        row: Row | None = None
        while True:
            message = reader.next()
            match message:
                case "body", body:
                    assert row is not None
                    yield row._replace(body=body)
                    row = None
                    continue
                case _ if row is not None:
                    yield row
                    row = None
            match message:
                case "row", key, value:
                    start = key + b"\0"
                    row = Row(key, value, None)
                case ("end",):
                    return
                case "lost", _ if message is not None:
                    break
        assert start is not None
        if reader.in_body:
            continue  # only the body is unreadable, its row was yielded; try the next row
        yield Fault(message[1])
        start = _behind(reader, start, of_ids)


def _behind(reader: _Reader, start: bytes, of_ids: bool) -> bytes | None:
    """Return the first place after *start* where a row can be read, None if there is none.

    Search forward in steps that double, then back by bisection.  This can skip readable rows
    if they are few compared with the unreadable ones before them.
    """
    bad = number_of(start, of_ids)
    step = 1
    while True:
        place = place_of(good := bad + step, of_ids)
        if place is None:
            return None
        if reader.can_read(place):
            break
        bad, step = good, 2 * step
    while good - bad > 1:
        place = place_of(middle := (good + bad) // 2, of_ids)
        assert place is not None
        if reader.can_read(place):
            good = middle
        else:
            bad = middle
    return place_of(good, of_ids)


def number_of(start: bytes, of_ids: bool) -> int:
    """Return the number of the place that contains the key *start*.

    :param of_ids: whether the keys are those of records; else they are numbers.
    """
    if not of_ids:
        return int.from_bytes(start[:_NUMBER_BYTES].ljust(_NUMBER_BYTES, b"\0"))
    number, weight = 0, len(_DIGITS) ** _DEPTH
    for byte in start[:_DEPTH]:
        weight //= len(_DIGITS)
        before = bisect_left(_DIGITS, byte)
        number += before * weight
        if byte not in _DIGITS:  # a damaged key: it is between two places, so in the first
            return number - 1
    return number if len(start) >= _DEPTH else number - 1


def place_of(number: int, of_ids: bool) -> bytes | None:
    """Return the first key of the place *number*, None if there is no such place."""
    if not of_ids:
        return number.to_bytes(_NUMBER_BYTES) if number < 1 << 8 * _NUMBER_BYTES else None
    if number >= len(_DIGITS) ** _DEPTH:
        return None
    digits = bytearray()
    for _ in range(_DEPTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return bytes(reversed(digits))


class _Reader:
    """A subprocess that reads rows, and is restarted after it was killed.

    :ivar in_body: whether the last message was a row whose body comes next: if the process
        is killed then, that body did it.
    """

    def __init__(self, directory: Path, database: str, take: str) -> None:
        self._arguments = [str(directory), database, take]
        self.in_body = False
        self._start()

    def _start(self) -> None:
        path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sos.stores.rows", *self._arguments],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, start: bytes, one: bool) -> None:
        """Make it read from *start* on: *one* row, or all."""
        self.in_body = False
        if self._process.poll() is not None:
            self.close()
            self._start()
            self.next()  # the message that the index is open
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{start.hex()} {int(one)}\n".encode())
            self._process.stdin.flush()

    def can_read(self, place: bytes) -> bool:
        """Return whether the first row from *place* on can be read, or there is none."""
        self.ask(place, True)
        while (message := self.next())[0] in ("row", "body"):
            pass
        return bool(message[0] == "end")

    def next(self) -> tuple[Any, ...]:
        """Return its next message; if it was killed, a message that a row cannot be read."""
        assert self._process.stdout is not None
        try:
            message: tuple[Any, ...] = marshal.load(self._process.stdout)
        except (EOFError, ValueError, TypeError):  # killed, maybe in the middle of a message
            status = self._process.wait()
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            return "lost", f"reading it killed the reader process ({name})"
        self.in_body = message[0] == "row" and bool(self._takes_body(message[2]))
        return message

    def _takes_body(self, value: bytes) -> bool:
        return self._arguments[-1] == "bodies" and any(value[:_NUMBER_BYTES])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _main(directory: str, database: str, take: str) -> None:
    try:
        environment = lmdb.open(
            directory, readonly=True, lock=False, create=False, max_dbs=MOST_DATABASES
        )
        info = environment.info()
        size = (info["last_pgno"] + 1) * environment.stat()["psize"]
        rows = environment.open_db(database.encode(), create=False) if database else None
        inline = environment.open_db(b"bodies", create=False) if take == "bodies" else None
    except lmdb.Error as error:
        _say("lost", str(error))
        return
    _say("opened", info["last_txnid"], size)
    for line in sys.stdin:
        start, one = line.rstrip("\n").split(" ")
        _read(environment, rows, inline, bytes.fromhex(start), bool(int(one)), take == "keys")


def _read(
    environment: lmdb.Environment, rows: Any, inline: Any, start: bytes, one: bool, keys: bool
) -> None:
    in_body = True
    while in_body:
        # After a read error a transaction is unusable, so begin another.
        with environment.begin(rows) as transaction, transaction.cursor() as cursor:
            in_body = False
            try:
                while cursor.set_range(start) if start else cursor.first():
                    key = bytes(cursor.key())
                    if key < start:
                        raise lmdb.CorruptedError("the rows are out of order")
                    value = b"" if keys else bytes(cursor.value())
                    _say("row", key, value)
                    start = key + b"\0"
                    if one:
                        break
                    if inline is not None and any(number := value[:_NUMBER_BYTES]):
                        in_body = True
                        _say("body", transaction.get(number, db=inline))
                        in_body = False
            except lmdb.Error as error:
                if not in_body:
                    _say("lost", str(error))
                    return
                _say("body", None)
    _say("end")


def _say(*message: Any) -> None:
    # Unbuffered: the next read may kill the process.
    data = marshal.dumps(message)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    _main(*sys.argv[1:])
