"""The headers of tus 1.0.0, a protocol for resumable uploads.

https://tus.io/protocols/resumable-upload

The IETF's "Resumable Uploads for HTTP" is to succeed it, but clients implement tus today:
tus-js-client, Uppy, tuspy, and those for Java, Android, iOS, Go and .NET.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping

from werkzeug.exceptions import PreconditionFailed, UnsupportedMediaType

from sos.errors import InvalidRequest, WrongChecksum
from sos.http.server.request import Request
from sos.interfaces import parse_size

#: The beginning of all paths.
PATH = b"/tus"
VERSION = b"1.0.0"
EXTENSIONS = b"creation,creation-with-upload,expiration,checksum,termination"

_BODY_TYPE = b"application/offset+octet-stream"
# As named by the checksum extension; servers must support sha1.
_ALGORITHMS = ("sha1", "md5", "sha256", "sha512")
#: The same, for ``Tus-Checksum-Algorithm``.
ALGORITHMS = ",".join(_ALGORITHMS).encode("ascii")
# A key must be valid as part of a header's name (RFC 9110, 5.6.2).
_KEY = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# From the clients' keys to the headers of SOS.
_NAMES = {b"filename": b"X-Orig-Filename", b"filetype": b"X-Mime-Type"}


def identify(request: Request) -> None:
    """Set the headers that every answer has."""
    request.setHeader(b"Tus-Resumable", VERSION)
    request.setHeader(b"Tus-Version", VERSION)


def check_version(headers: Mapping[bytes, bytes]) -> None:
    """Raise PreconditionFailed unless the request is of the supported version."""
    if headers.get(b"tus-resumable") != VERSION:
        raise PreconditionFailed(
            "this server supports tus 1.0.0: send the header Tus-Resumable: 1.0.0"
        )


def check_type(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType unless the body is declared as part of an upload."""
    if headers.get(b"content-type", b"").lower() != _BODY_TYPE:
        raise UnsupportedMediaType(f"the Content-Type of the body must be {_BODY_TYPE.decode()}")


def size(headers: Mapping[bytes, bytes], name: bytes) -> int:
    """Return the number of bytes in the header *name*; raises InvalidRequest if there is none."""
    found = parse_size(headers.get(name, b""))
    if found is None:
        raise InvalidRequest(f"the header {name.decode()} is missing, or is not a number of bytes")
    return found


def metadata_headers(upload_metadata: bytes) -> list[tuple[bytes, bytes]]:
    """Convert the value of ``Upload-Metadata`` to X-* headers.

    ``filename`` becomes X-Orig-Filename, ``filetype`` X-Mime-Type, and any other ``KEY``
    X-Meta-KEY.  Raises InvalidRequest if the value is malformed.
    """
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for pair in upload_metadata.split(b",") if upload_metadata else ():
        key, _, encoded = pair.strip(b" ").partition(b" ")
        if _KEY.fullmatch(key) is None:
            raise InvalidRequest(
                "upload-metadata: a key is missing, or contains invalid characters"
            )
        name = _NAMES.get(key) or b"X-Meta-" + key
        if name.lower() in found:
            raise InvalidRequest(f"upload-metadata: the key {key.decode()} occurs twice")
        found[name.lower()] = name, _decode("upload-metadata", encoded)
    return [(name, value) for name, value in found.values() if value]


def _decode(name: str, encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise InvalidRequest(f"{name}: a value is not valid base64") from None


class Checksum:
    """Verifier of a body by its ``Upload-Checksum``.

    Raises InvalidRequest if the *value* is malformed, or its algorithm is unknown.
    """

    def __init__(self, value: bytes) -> None:
        name, _, encoded = value.partition(b" ")
        self._name = name.decode("latin-1")
        if self._name not in _ALGORITHMS:
            raise InvalidRequest(
                f"upload-checksum: unknown algorithm; use one of {', '.join(_ALGORITHMS)}"
            )
        self._hash = hashlib.new(self._name, usedforsecurity=False)
        self._digest = _decode("upload-checksum", encoded)
        if len(self._digest) != self._hash.digest_size:
            raise InvalidRequest(
                f"upload-checksum: the checksum has the wrong length for {self._name}"
            )

    def update(self, piece: bytes) -> None:
        """Hash the next *piece* of the body."""
        self._hash.update(piece)

    def verify(self) -> None:
        """Raise WrongChecksum unless the body matches the checksum."""
        if self._hash.digest() != self._digest:
            raise WrongChecksum(
                f"the body does not match its {self._name} checksum and was discarded: resend it"
            )
