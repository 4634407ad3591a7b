"""The entry of a small blob in an untrusted cache.

The body can be verified against its id, but the metadata cannot.  So an entry is
sealed (HMAC) with a key that only clients of the blob servers have: an entry that the
cache forges or damages is rejected.
"""

from __future__ import annotations

import hmac
import struct

from sos.auth.request_signing import Key
from sos.errors import InvalidMetadata
from sos.model import digest, metadata
from sos.model.metadata import Metadata

#: Most bytes of an entry besides the body.
OVERHEAD = 16 * 1024

# Length of the metadata in bytes; then come the metadata and the body.
_LENGTH = struct.Struct(">I")
_SEAL_BYTES = 32


def seal(key: Key, id: str, found: Metadata, body: bytes) -> bytes:
    """Return the sealed entry of a blob with the content id *id*.

    :param found: its metadata.
    """
    encoded = metadata.encode(found)
    content = _LENGTH.pack(len(encoded)) + encoded + body
    return _seal(key, id, content) + content


def unseal(key: Key, id: str, entry: bytes) -> tuple[Metadata, bytes] | None:
    """Return metadata and body of the blob *id*; None unless *entry* is sealed with *key*."""
    content = entry[_SEAL_BYTES:]
    if not hmac.compare_digest(entry[:_SEAL_BYTES], _seal(key, id, content)):
        return None
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    body = content[end:]
    try:
        found = metadata.decode(content[_LENGTH.size : end])
    except InvalidMetadata:  # sealed by a version with other limits
        return None
    return None if digest.hash_of(id, body).hex() != id else (found, body)


def _seal(key: Key, id: str, content: bytes) -> bytes:
    return bytes.fromhex(key.derived("cached blob").sign(id.encode("ascii") + b"\n" + content))
