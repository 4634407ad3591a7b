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
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

#: Databases that an index has at most, in any version.
MOST_DATABASES = 8
# A place in the order of records is told by so many of these digits, which an id begins with.
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"
_DEPTH = 8
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
    """Give the rows of a *database* of the index in *directory*, and a fault where some are not.

    :param bodies: whether the rows are records, and come with their inline bodies.
    :param values: False leaves out what the rows hold.
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
            continue  # to read that body did it; the next row may be well
        yield Fault(message[1])
        start = _behind(reader, start, of_ids)


def _behind(reader: _Reader, start: bytes, of_ids: bool) -> bytes | None:
    """Return the first place behind *start* from which on rows can be read, None for none.

    The search goes on in ever larger steps, and then back by halves: it can pass over rows that
    are few in comparison with those that cannot be read before them.
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
    """Return the number of the place that *start* is in."""
    if not of_ids:
        return int.from_bytes(start[:_NUMBER_BYTES].ljust(_NUMBER_BYTES, b"\0"))
    number, weight = 0, len(_DIGITS) ** _DEPTH
    for byte in start[:_DEPTH]:
        weight //= len(_DIGITS)
        before = bisect_left(_DIGITS, byte)
        number += before * weight
        if byte not in _DIGITS:  # as damage has made it: between two places is in the first
            return number - 1
    return number if len(start) >= _DEPTH else number - 1


def place_of(number: int, of_ids: bool) -> bytes | None:
    """Return where the place of this *number* begins, None if there is none."""
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
    """A process that reads, and is started anew when it was killed.

    :ivar in_body: whether it was killed while it read the body of the last row.
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
        """Have it read from *start* on: all rows, or one."""
        self.in_body = False
        if self._process.poll() is not None:
            self.close()
            self._start()
            self.next()  # that it is open
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{start.hex()} {int(one)}\n".encode())
            self._process.stdin.flush()

    def can_read(self, place: bytes) -> bool:
        """Tell whether there is a row from *place* on, or the end."""
        self.ask(place, True)
        while (message := self.next())[0] in ("row", "body"):
            pass
        return bool(message[0] == "end")

    def next(self) -> tuple[Any, ...]:
        """Return what it says next: of being killed, that a row could not be read."""
        assert self._process.stdout is not None
        try:
            message: tuple[Any, ...] = marshal.load(self._process.stdout)
        except (EOFError, ValueError, TypeError):  # it was killed in a message, at worst
            status = self._process.wait()
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            return "lost", f"to read it kills the process ({name})"
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
        # No transaction is of use any more in which something could not be read.
        with environment.begin(rows) as transaction, transaction.cursor() as cursor:
            in_body = False
            try:
                while cursor.set_range(start) if start else cursor.first():
                    key = bytes(cursor.key())
                    if key < start:
                        raise lmdb.CorruptedError("rows are not in order")
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
    # Whole, and at once, for the next step may be the last.
    data = marshal.dumps(message)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    _main(*sys.argv[1:])
