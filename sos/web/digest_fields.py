"""Digests that a client sends to have a body verified, or asks for.

RFC 9530 defines ``Repr-Digest``, ``Content-Digest`` and ``Want-Repr-Digest``, RFC 1864
``Content-MD5``.  SOS stores bodies unchanged, whatever their coding, so content and
representation are the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import cast

import http_sf
from attrs import frozen

from sos.errors import InvalidRequest, WrongDigest
from sos.interfaces import Pieces
from sos.model import ids

# The headers' names, in lower case.
REPR_DIGEST = b"repr-digest"
CONTENT_DIGEST = b"content-digest"
CONTENT_MD5 = b"content-md5"
WANT_REPR_DIGEST = b"want-repr-digest"

# The algorithms that RFC 9530 calls active, by the names of its registry.  Others are
# ignored, as section 2 says, so no client can rely on them.
_HASHES = {
    "sha-256": partial(hashlib.sha256, usedforsecurity=False),
    "sha-512": partial(hashlib.sha512, usedforsecurity=False),
}
_ALL_HASHES = {**_HASHES, "md5": partial(hashlib.md5, usedforsecurity=False)}


@frozen
class Claim:
    """Digest of a body, as declared in a header.

    :param field: the header's name, in lower case.
    :param algorithm: the hash: ``sha-256``, ``sha-512`` or ``md5``.
    :param digest: the expected hash of the body.
    """

    field: str
    algorithm: str
    digest: bytes


def claims(headers: Mapping[bytes, bytes]) -> list[Claim]:
    """Return the digests of the body in a request's *headers*, named in lower case.

    Raises :exc:`~sos.errors.InvalidRequest` for a malformed value.
    """
    found = []
    for field in (REPR_DIGEST, CONTENT_DIGEST):
        if field in headers:
            name = field.decode("ascii")
            found += [
                Claim(name, algorithm, _digest(name, algorithm, member))
                for algorithm, (member, _) in _dictionary(name, headers[field]).items()
                if algorithm in _HASHES
            ]
    if CONTENT_MD5 in headers:
        found.append(Claim("content-md5", "md5", _md5(headers[CONTENT_MD5])))
    return found


def _dictionary(name: str, value: bytes) -> Mapping[str, tuple[object, object]]:
    """Return the members of a structured field (RFC 9651), each with its parameters."""
    try:
        return cast(Mapping[str, tuple[object, object]], http_sf.parse(value, tltype="dictionary"))
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}") from None


def _digest(name: str, algorithm: str, member: object) -> bytes:
    size = _HASHES[algorithm]().digest_size
    if not isinstance(member, bytes) or len(member) != size:
        raise InvalidRequest(
            f"{name}: the value of {algorithm} must be {size} bytes in base64, between colons"
        )
    return member


def _md5(value: bytes) -> bytes:
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise InvalidRequest("content-md5: the value must be 16 bytes in base64")
    return digest


async def checked(body: Pieces, claimed: list[Claim]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of *body*, and verify its *claimed* digests at the end.

    Raises :exc:`~sos.errors.WrongDigest` after the last piece.
    """
    hashes = {claim.algorithm: _ALL_HASHES[claim.algorithm]() for claim in claimed}
    async for piece in body:
        # Not in a thread: a piece has at most some 100 KiB, so hashing it delays other
        # requests by 0.2 ms at most.
        for each in hashes.values():
            each.update(piece)
        yield piece
    for claim in claimed:
        digest = hashes[claim.algorithm].digest()
        if digest != claim.digest:
            raise WrongDigest(
                f"the body's {claim.algorithm} is {_base64(digest)}, but {claim.field} says "
                f"{_base64(claim.digest)}: the body was corrupted on the way, or has changed"
            )


def answer(wanted: bytes, id: str) -> bytes | None:
    """Return the ``Repr-Digest`` of the blob *id* that ``Want-Repr-Digest`` asks for.

    None unless it asks for SHA-256 and the id is the SHA-256 of the blob, because no
    other digest is known.  A malformed *wanted* is ignored.
    """
    if ids.algorithm(id) != "sha256":
        return None
    try:
        preferences = _dictionary("want-repr-digest", wanted)
    except InvalidRequest:
        return None
    preference, _ = preferences.get("sha-256", (0, None))
    # 1 to 10, or 0 for "not acceptable" (section 4).
    if type(preference) is not int or not 1 <= preference <= 10:
        return None
    return b"sha-256=:%s:" % base64.b64encode(bytes.fromhex(id))


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
