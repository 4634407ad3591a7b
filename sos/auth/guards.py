"""Guards: authentication and authorization of requests, before any of the body is read."""

from __future__ import annotations

from collections.abc import Callable, Container

from twisted.logger import Logger, LogLevel

from sos.aio.limited_log import LimitedLog
from sos.auth.request_signing import Keys, Verifier
from sos.auth.signed_urls import check_signed
from sos.auth.tokens import Tokens
from sos.errors import Forbidden, SOSError, Unauthorized
from sos.http.server.access_log_lines import hide_secrets
from sos.http.server.request import Request

#: Checks a request; raises Unauthorized or Forbidden to refuse it.
Guard = Callable[[Request], None]

#: How the routes of uploads begin, and those of fetches: on their own ports and on admin ports.
UPLOADS, FETCHES = ("/upload", "/form", "/tus"), ("/fetch",)

#: Seconds between two log lines about refused requests, at least.
LOG_SECONDS = 1.0

# RFC 6750, 3.
_CHALLENGE = "Bearer"
_WRONG = 'Bearer error="invalid_token"'

_SCHEME = b"bearer "
_SIGNED = b"signature="

_log = Logger()


class SignedRequests:
    """Guard that accepts signed requests.

    :param open_paths: paths that need no signature.
    :param clock: returns a time in seconds, for the rate of log lines.
    """

    def __init__(
        self, verifier: Verifier, open_paths: Container[bytes], clock: Callable[[], float]
    ) -> None:
        self._verifier = verifier
        self._open_paths = open_paths
        self._refusals = LimitedLog(_log, clock, LOG_SECONDS)

    def __call__(self, request: Request) -> None:
        if request.path in self._open_paths:
            return
        try:
            self._verifier.check(
                request.method, request.target, request.body.length, request.headers
            )
        except Unauthorized as error:
            log_refusal(self._refusals, request, error)
            raise
        request.private = True


class TokenGuard:
    """Guard that accepts requests with a token for *scope* (RFC 6750).

    :param tokens: returns the valid tokens.
    :param now: returns the time, in seconds since 1970.
    :param clock: returns a time in seconds, for the rate of log lines.
    :param open_paths: paths that need no token.
    :param link_keys: returns the keys of signed URLs; None to accept none.
    :param deletes: whether to delete an object takes the scope ``delete`` instead.
    """

    def __init__(
        self,
        tokens: Callable[[], Tokens],
        scope: str,
        now: Callable[[], float],
        clock: Callable[[], float],
        open_paths: Container[bytes] = (),
        link_keys: Callable[[], Keys] | None = None,
        deletes: bool = False,
    ) -> None:
        self._deletes = deletes
        self._tokens = tokens
        self._scope = scope
        self._now = now
        self._open_paths = open_paths
        self._link_keys = link_keys
        self._refusals = LimitedLog(_log, clock, LOG_SECONDS)

    def __call__(self, request: Request) -> None:
        if request.path in self._open_paths:
            return
        target = request.target
        if _SIGNED in target:  # keep it out of access logs: anyone with the link may fetch
            request.uri = target.partition(_SIGNED)[0] + _SIGNED + b"..."
        try:
            if (
                self._link_keys is not None
                and _SIGNED in target
                and b"authorization" not in request.headers
            ):
                check_signed(self._link_keys(), target, self._now(), _WRONG)
            else:
                self._check_token(request)
        except (Unauthorized, Forbidden) as error:
            log_refusal(self._refusals, request, error)
            raise
        request.private = True

    def _check_token(self, request: Request) -> None:
        value = request.headers.get(b"authorization")
        if value is None:
            raise Unauthorized(
                "the request has no token: send one as Authorization: Bearer TOKEN", _CHALLENGE
            )
        token = None
        if value[: len(_SCHEME)].lower() == _SCHEME:
            token = self._tokens().find(value[len(_SCHEME) :].strip(b" "))
        if token is None:
            raise Unauthorized("the token is invalid or has been revoked", _WRONG)
        if not token.holds(self._now()):
            raise Unauthorized(f"the token {token.name} has expired", _WRONG)
        request.user = token.name
        scope = "delete" if self._deletes and is_deletion(request) else self._scope
        if scope not in token.scopes:
            raise Forbidden(f"the token {token.name} lacks the scope {scope}")


def is_deletion(request: Request) -> bool:
    """Return whether *request* is to delete an object."""
    return request.method == b"DELETE" and request.route.startswith("/upload")


class AdminGuard:
    """Guard of an admin port, which selects another guard by the route.

    Uploads and fetches need the same credentials here as on their own ports.

    :param uploads: the guard for uploads; None to use *rest*.
    :param fetches: the guard for fetches; None to use *rest*.
    :param rest: the guard for all other routes; None to accept all requests.
    """

    def __init__(self, uploads: Guard | None, fetches: Guard | None, rest: Guard | None) -> None:
        self._uploads = uploads
        self._fetches = fetches
        self._rest = rest

    def __call__(self, request: Request) -> None:
        guard = self._rest
        if request.route.startswith(UPLOADS):
            guard = self._uploads or guard
        elif request.route.startswith(FETCHES):
            guard = self._fetches or guard
        if guard is not None:
            guard(request)


def log_refusal(log: LimitedLog, request: Request, error: SOSError) -> None:
    """Log that *request* was refused because of *error*, at a limited rate."""
    log.emit(
        LogLevel.warn,
        "request refused: {method} {path} peer={peer} reason={error}",
        method=request.method.decode("latin-1"),
        path=hide_secrets(request.path)[:200].decode("latin-1"),
        peer=getattr(request.getClientAddress(), "host", "unix"),
        error=error,
    )
