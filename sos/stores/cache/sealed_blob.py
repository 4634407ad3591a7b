"""A small blob as it lies in a cache that nobody has to trust.

The body can be verified against its id, but nothing tells whether metadata are
those of the blob.  So an entry is sealed, with a key that only those have who
may speak to blob servers: what a cache makes up, or damages, is not opened.
"""

from __future__ import annotations

import hmac
import struct

from sos.auth.request_signing import Key
from sos.errors import InvalidMetadata
from sos.model import digest, metadata
from sos.model.metadata import Metadata

#: Bytes that an entry has beyond its body, at most.
OVERHEAD = 16 * 1024

# Bytes of the metadata, which follow, and behind them the body.
_LENGTH = struct.Struct(">I")
_SEAL_BYTES = 32


def seal(key: Key, id: str, found: Metadata, body: bytes) -> bytes:
    """Return the entry of a blob, whose id is that of its content."""
    encoded = metadata.encode(found)
    content = _LENGTH.pack(len(encoded)) + encoded + body
    return _seal(key, id, content) + content


def unseal(key: Key, id: str, entry: bytes) -> tuple[Metadata, bytes] | None:
    """Return metadata and body of the blob *id*, None when *entry* is not what was sealed."""
    content = entry[_SEAL_BYTES:]
    if not hmac.compare_digest(entry[:_SEAL_BYTES], _seal(key, id, content)):
        return None
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    body = content[end:]
    try:
        found = metadata.decode(content[_LENGTH.size : end])
    except InvalidMetadata:  # of a limit that another version had
        return None
    return None if digest.hash_of(id, body).hex() != id else (found, body)


def _seal(key: Key, id: str, content: bytes) -> bytes:
    return bytes.fromhex(key.derived("cached blob").sign(id.encode("ascii") + b"\n" + content))
