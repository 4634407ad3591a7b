"""What PostgreSQL answers is checked: one that lies is unavailable, and is not believed."""

from __future__ import annotations

import struct

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from sos.errors import Unavailable
from sos.stores.engines.postgres.address import address
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.changes import Changes
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.digests import Digests
from sos.stores.engines.postgres.schema import Tables

BOOL, BYTEA, INT8, TEXT, FLOAT8, NUMERIC, TIME = 16, 17, 20, 25, 701, 1700, 1184
ON = [(TEXT, 0, b"on")] * 3


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def described(row):
    columns = b"".join(b"a\0" + struct.pack(">IhIhih", 0, 0, o, -1, -1, f) for o, f, _ in row)
    return message(b"T", struct.pack(">H", len(row)) + columns)


def data(row):
    values = b"".join(
        struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
        for _, _, value in row
    )
    return message(b"D", struct.pack(">H", len(row)) + values)


class Liar(Protocol):
    """Speaks as much of the protocol as psycopg asks for; every answer is the factory's row.

    A row is of columns: the number of a type, whether the value is binary, the value.
    """

    def connectionMade(self):
        self._received = b""
        self._begun = False

    def dataReceived(self, received):
        self._received += received
        while True:
            start = 1 if self._begun else 0
            if len(self._received) < start + 4:
                return
            end = start + struct.unpack_from(">I", self._received, start)[0]
            if len(self._received) < end:
                return
            kind, body = self._received[:start], self._received[start + 4 : end]
            self._received = self._received[end:]
            self._answer(kind, body)

    def _answer(self, kind, body):
        row = self.factory.row
        if not kind:
            if body == struct.pack(">I", 196608) or len(body) > 4:
                self._begun = True
                parameters = b"client_encoding\0UTF8\0", b"standard_conforming_strings\0on\0"
                self._send(
                    message(b"R", struct.pack(">I", 0)), *(message(b"S", t) for t in parameters)
                )
                self._send(message(b"Z", b"I"))
            else:  # it asks for TLS
                self._send(b"N")
        elif kind == b"Q":
            if b"SELECT current_setting('fsync')" in body:
                self._send(described(ON), data(ON), message(b"C", b"SELECT 1\0"))
            elif body.startswith(b"SET"):
                self._send(*4 * [message(b"C", b"SET\0")])
            elif isinstance(row, bytes):
                self._send(row)
            else:
                self._send(described(row), data(row), message(b"C", b"SELECT 1\0"))
            self._send(message(b"Z", b"I"))
        elif isinstance(row, bytes):
            if kind == b"E":
                self._send(row)
            elif kind == b"S":
                self._send(message(b"Z", b"I"))
        else:
            answers = {b"P": message(b"1"), b"B": message(b"2"), b"S": message(b"Z", b"I")}
            answers[b"D"] = described(row)
            answers[b"E"] = data(row) + message(b"C", b"SELECT 1\0")
            self._send(answers.get(kind, b""))

    def _send(self, *messages):
        self.transport.write(b"".join(messages))


@async_yield_fixture
async def liar(reactor):
    """A server, and the connections of a store that believes to be in it."""
    factory = Factory.forProtocol(Liar)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    url = f"postgresql://u:hush@127.0.0.1:{port.getHost().port}/db"
    factory.row = []
    factory.connections = Connections(address(url), reactor)
    await factory.connections.start(lambda session: None, lambda session: None)
    yield factory
    await factory.connections.stop()
    await port.stopListening()


TABLES = Tables("sos")
BLOBS = Blobs(TABLES, Digests(TABLES))
BODIES = Bodies(TABLES)
CHANGES = Changes(BLOBS)
ASK = {
    "find": lambda session: BLOBS.find(session, "a").info(),
    "page": lambda session: BLOBS.page(session, None, 10, None),
    "told": lambda session: BLOBS.blob_digests(session, "abc"),
    "digests": BLOBS.digests.all,
    "total": BLOBS.digests.total,
    "piece": lambda session: BODIES.piece(session, 1, 0, 5),
    "same": lambda session: BODIES.is_same_piece(session, 1, 2, 0),
    "abandoned": BODIES.abandoned,
    "lease": lambda session: CHANGES.lease(session, 10, None),
    "identity": TABLES.identity,
    "has_hashes": TABLES.has_hashes,
}
NUMBER = (INT8, 1, struct.pack(">q", 1))
RECORD = [
    NUMBER,
    (BYTEA, 1, b"h" * 20),
    (TEXT, 1, b"{}"),
    (BYTEA, 1, b"x"),
    (INT8, 1, None),
    NUMBER,
    (FLOAT8, 1, struct.pack(">d", 1.0)),
    (TEXT, 1, b"1"),
]


def record(place, *column):
    return [*RECORD[:place], column, *RECORD[place + 1 :]]


NOT_BYTES = [ask for ask in ASK if ask != "find"]
LIES = [
    *((ask, [(TEXT, 0, b"\xff\x1b")]) for ask in ASK),
    *((ask, [(3802, 0, b"{")]) for ask in ASK),
    *((ask, [(TIME, 1, struct.pack(">q", 1 << 62))]) for ask in NOT_BYTES),
    *((ask, [(TEXT, 0, b"a"), (TEXT, 0, b"b")]) for ask in ASK),
    *((ask, [(TEXT, 0, None)] * 4) for ask in ASK),
    *((ask, b"\xff" * 80) for ask in ASK),
    *((ask, b"D" + struct.pack(">I", (1 << 31) - 1)) for ask in ASK),
    *((ask, message(b"E", b"SERROR\0C\x1b\0M\x1b[2Jno\n\xff\0\0")) for ask in ASK),
    ("find", record(0, TEXT, 1, b"x")),
    ("find", record(0, INT8, 0, b"x")),
    ("find", record(0, INT8, 1, None)),
    ("find", record(0, NUMERIC, 0, b"NaN")),
    ("find", record(1, BYTEA, 1, None)),
    ("find", record(1, TEXT, 1, b"x")),
    ("find", record(2, TEXT, 1, b"\xff")),
    ("find", record(2, TEXT, 1, None)),
    ("find", record(3, TEXT, 1, b"x")),
    ("find", record(4, TEXT, 1, b"x")),
    ("find", record(5, FLOAT8, 1, struct.pack(">d", 1.0))),
    ("find", record(6, INT8, 1, struct.pack(">q", 1))),
    ("page", [(TEXT, 0, b"abc../\x1b")]),
    ("page", [(TEXT, 0, b"abca")]),
    ("page", [(INT8, 0, b"5")]),
    ("told", [(TEXT, 0, b"abca"), (INT8, 0, b"1"), (TEXT, 0, b"{}"), (BYTEA, 0, b"\\x00")]),
    ("told", [(TEXT, 0, b"86fa"), (INT8, 0, b"1"), (TEXT, 0, b"[" * 9999), (BYTEA, 0, b"\\x00")]),
    ("digests", [(TEXT, 0, b"xyz"), (INT8, 0, b"1"), (INT8, 0, b"1"), (TEXT, 0, b"1")]),
    ("digests", [(TEXT, 0, b"abc"), (INT8, 0, b"1"), (INT8, 0, b"1"), (TEXT, 0, b"9" * 5000)]),
    ("total", [(TEXT, 0, b"1"), (INT8, 0, b"1")]),
    ("piece", [(BYTEA, 1, b"x")]),
    ("piece", [(BYTEA, 1, None), (BYTEA, 1, None)]),
    ("piece", [(TEXT, 0, b"x"), (BYTEA, 1, None)]),
    ("piece", [(BYTEA, 1, b"x"), (TEXT, 0, b"x")]),
    ("lease", [(TEXT, 0, b"a"), (TEXT, 0, b"b"), (FLOAT8, 0, b"1")]),
]


@pytest.mark.parametrize(("ask", "row"), LIES, ids=repr)
@ensureDeferred
async def test_an_answer_of_another_form_is_none(liar, ask, row):
    """It is that server which is unavailable, and what it says can be shown to a terminal."""
    liar.row = row
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await liar.connections.run(ASK[ask])
        assert str(caught.value).isprintable()
        assert "hush" not in str(caught.value)
