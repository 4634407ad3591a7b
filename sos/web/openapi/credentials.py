"""The credentials of requests, and the answers to requests without them."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from sos.web.openapi import responses
from sos.web.openapi.parts import Response, Shared


@frozen
class Credentials:
    """How a server refuses requests.

    :param scheme: the security scheme, as a component.
    :param unknown: the response to missing or invalid credentials.
    :param change: the responses to a change that the client may not make.
    :param read: the responses to a read that the client may not do.
    """

    scheme: Shared
    unknown: Response
    change: Sequence[Response]
    read: Sequence[Response] = ()


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "From `sos token add`. Servers with a `--token-file` require it.",
}
#: Those of an API server.
TOKENS = Credentials(
    Shared("securitySchemes", "token", _TOKEN),
    unknown=responses.NO_TOKEN,
    change=[responses.OTHER_SCOPE_OR_SITE],
    read=[responses.OTHER_SCOPE],
)

_SIGNATURE = {
    "type": "apiKey",
    "in": "header",
    "name": "Authorization",
    "description": "`SOS1 key=ID, date=SECONDS, nonce=HEX, signature=HEX`, an HMAC-SHA256 with the "
    "secret that the servers share, see `sos/auth/request_signing.py`. Servers with a "
    "`--secret-file` require it.",
}
#: Those of a blob server.
SIGNATURES = Credentials(
    Shared("securitySchemes", "signature", _SIGNATURE),
    unknown=responses.NOT_SIGNED,
    change=[responses.OTHER_SITE],
)
