"""Signed URLs: links to fetch an object without a token until they expire.

The signature is the HMAC-SHA256 of these lines, with a key derived from the secret of
the cluster::

    ID of the object
    when the link expires: seconds since 1970
"""

from __future__ import annotations

import re
from hmac import compare_digest

from sos.auth.request_signing import Key, Keys
from sos.errors import Unauthorized

# The id must be unescaped, so that it is the same id that the route extracts.
_PATH = re.compile(rb"/fetch/([0-9a-z]{1,128})(\.[^/]*)?")
_QUERY = re.compile(rb"expires=([0-9]{1,11})&signature=([0-9a-f]{64})")


def signed_path(keys: Keys, id: str, expires: int) -> str:
    """Return the path and query of a signed URL of the object *id*.

    :param expires: when, in seconds since 1970.
    """
    signature = _signature(keys.first, id.encode("ascii"), b"%d" % expires)
    return f"/fetch/{id}?expires={expires}&signature={signature}"


def check_signed(keys: Keys, target: bytes, now: float, challenge: str) -> None:
    """Check that *target*, the path and query of a request, is a valid signed URL.

    :param now: the time, in seconds since 1970.
    :raises Unauthorized: with *challenge*, if not.
    """
    path, _, query = target.partition(b"?")
    asked, signed = _PATH.fullmatch(path), _QUERY.fullmatch(query)
    if asked is None or signed is None:
        raise Unauthorized("the URL is not a signed link", challenge)
    expires, signature = signed.groups()
    # A link does not name its key, so try all of them: there are two at most.
    expected = [_signature(key, asked[1], expires).encode("ascii") for key in keys.all]
    if not any(compare_digest(each, signature) for each in expected):
        raise Unauthorized(
            "the signature does not match the link, or its key is no longer valid", challenge
        )
    if now >= int(expires):
        raise Unauthorized("the link has expired", challenge)


def _signature(key: Key, id: bytes, expires: bytes) -> str:
    return key.derived("fetch URL").sign(b"%s\n%s\n" % (id, expires))
