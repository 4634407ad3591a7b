"""Batches: many small requests of an API server to a blob server in one HTTP request.

The request is most of what a small blob costs.  Both directions are binary records, numbers
with the most significant byte first.  A record of a request is::

    operation       1 byte      READ, STAT or STORE
    lengths         1, 1, 2, 4  of what follows, in bytes
    request id                  of the client's request, for logs; may be empty
    id                          of the blob
    metadata                    STORE: as in X-Sos-Metadata; else empty
    body                        STORE: the whole body; else empty

The answer has one record for each, in the same order::

    status          2 bytes     that the operation by itself would have had, or ALONE
    lengths         2, 4        of what follows, in bytes
    size            8           of the blob's body in bytes, or UNKNOWN
    metadata                    READ, STAT: as in X-Sos-Metadata
    body                        READ: the body;
                                STORE: the id of the store, if it has one, a space, the id;
                                a status from 400 on: the reason, in UTF-8

Nothing here verifies a body against its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from sos.errors import InvalidRequest, Unavailable

#: The media type of requests and answers.
MEDIA_TYPE = b"application/vnd.sos.batch"
#: The operations: they stand for GET, HEAD and POST of a blob.
READ, STAT, STORE = 1, 2, 3
#: The HTTP methods of the operations.
METHODS = {READ: b"GET", STAT: b"HEAD", STORE: b"POST"}
#: The status of an operation that has to be requested by itself: the body is large, say.
ALONE = 303
#: A size that is not known.
UNKNOWN = (1 << 64) - 1

#: Most records of a batch.
MOST_RECORDS = 64
#: Bytes at which a request or an answer is full: a server handles nothing else while it parses
#: one, and holds all of it in memory.
FULL = 256 * 1024
#: Most bytes of a request or answer: a full one, with one more record of any size.
MOST_BYTES = 512 * 1024

_REQUEST = Struct(">BBBHI")
_ANSWER = Struct(">HHIQ")


class Record(NamedTuple):
    """One operation of a batch."""

    operation: int
    request_id: bytes
    id: bytes
    metadata: bytes = b""
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the record as sent."""
        operation, request_id, id, metadata, body = self
        head = _REQUEST.pack(operation, len(request_id), len(id), len(metadata), len(body))
        return b"%b%b%b%b%b" % (head, request_id, id, metadata, body)


class Answer(NamedTuple):
    """What became of one operation."""

    status: int
    size: int = UNKNOWN
    metadata: bytes = b""
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the record as sent."""
        status, size, metadata, body = self
        head = _ANSWER.pack(status, len(metadata), len(body), size)
        return b"%b%b%b" % (head, metadata, body)


def parse(text: bytes) -> list[Record]:
    """Return the records of a request; raise InvalidRequest if it is malformed."""
    found: list[Record] = []
    position, end = 0, len(text)
    while position < end:
        start = position + _REQUEST.size
        if start > end:
            raise InvalidRequest("the batch ends within a record")
        operation, *lengths = _REQUEST.unpack_from(text, position)
        if operation not in METHODS:
            raise InvalidRequest(f"the batch has an unknown operation: {operation}")
        id_start = start + lengths[0]
        metadata_start = id_start + lengths[1]
        body_start = metadata_start + lengths[2]
        position = body_start + lengths[3]
        if position > end:
            raise InvalidRequest("the batch ends within a record")
        request_id, id = text[start:id_start], text[id_start:metadata_start]
        metadata, body = text[metadata_start:body_start], text[body_start:position]
        if operation != STORE and (metadata or body):
            raise InvalidRequest("the batch has a body for an operation that has none")
        found.append(Record(operation, request_id, id, metadata, body))
        if len(found) > MOST_RECORDS:
            raise InvalidRequest(f"the batch has more than {MOST_RECORDS} records")
    return found


def parse_answers(text: bytes, count: int) -> Sequence[Answer]:
    """Return the *count* records of an answer; raise Unavailable if it is malformed."""
    found: list[Answer] = []
    position, end = 0, len(text)
    while position + _ANSWER.size <= end:
        status, metadata_length, length, size = _ANSWER.unpack_from(text, position)
        start = position + _ANSWER.size
        body_start = start + metadata_length
        position = body_start + length
        found.append(Answer(status, size, text[start:body_start], text[body_start:position]))
    if position != end or len(found) != count:
        raise Unavailable(f"the answer to a batch of {count} is malformed: {len(found)} records")
    return found
