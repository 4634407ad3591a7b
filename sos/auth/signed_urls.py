"""Links to an object that are good for a time: who has one may fetch it, without a token.

The signature is the HMAC-SHA256 of these lines, by a key derived from the secret of
the cluster::

    ID of the object
    when the link expires: seconds since 1970
"""

from __future__ import annotations

import re
from hmac import compare_digest

from sos.auth.request_signing import Key, Keys
from sos.errors import Unauthorized

# The id stands there unescaped: so it is the one that the route finds.
_PATH = re.compile(rb"/fetch/([0-9a-z]{1,128})(\.[^/]*)?")
_QUERY = re.compile(rb"expires=([0-9]{1,11})&signature=([0-9a-f]{64})")


def signed_path(keys: Keys, id: str, expires: int) -> str:
    """Return the path and query of a link to the object *id*.

    :param expires: from when on it is no good, in seconds since 1970.
    """
    signature = _signature(keys.first, id.encode("ascii"), b"%d" % expires)
    return f"/fetch/{id}?expires={expires}&signature={signature}"


def check_signed(keys: Keys, target: bytes, now: float, challenge: str) -> None:
    """Return if *target*, the path and query of a request, is a link that is good now.

    :raises Unauthorized: with *challenge*, if not.
    """
    path, _, query = target.partition(b"?")
    asked, signed = _PATH.fullmatch(path), _QUERY.fullmatch(query)
    if asked is None or signed is None:
        raise Unauthorized("that is no signed link", challenge)
    expires, signature = signed.groups()
    # A link does not tell which key is meant; there are two at most.
    expected = [_signature(key, asked[1], expires).encode("ascii") for key in keys.all]
    if not any(compare_digest(each, signature) for each in expected):
        raise Unauthorized("the signature is not that of this link", challenge)
    if now >= int(expires):
        raise Unauthorized("the link has expired", challenge)


def _signature(key: Key, id: bytes, expires: bytes) -> str:
    return key.derived("fetch URL").sign(b"%s\n%s\n" % (id, expires))
