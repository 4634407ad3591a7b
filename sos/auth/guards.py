"""Who is let in: what a request has to pass before any of its body is read."""

from __future__ import annotations

from collections.abc import Callable, Container

from twisted.logger import Logger, LogLevel

from sos.aio.limited_log import LimitedLog
from sos.auth.request_signing import Keys, Verifier
from sos.auth.signed_urls import check_signed
from sos.auth.tokens import Tokens
from sos.errors import Forbidden, SOSError, Unauthorized
from sos.http.server.access_log_lines import without_secrets
from sos.http.server.request import Request

#: Raises Unauthorized or Forbidden for a request that is not to be answered.
Guard = Callable[[Request], None]

#: Least seconds between two lines of the log about those who were turned away.
LOG_SECONDS = 1.0

# RFC 6750, 3.
_CHALLENGE = "Bearer"
_WRONG = 'Bearer error="invalid_token"'

_SCHEME = b"bearer "
_SIGNED = b"signature="

_log = Logger()


class SignedRequests:
    """Lets in what is signed.

    :param open_paths: what everybody may ask for.
    :param clock: tells seconds that pass.
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


class Bearers:
    """Lets in who brings a token that is good for *scope* (RFC 6750).

    :param tokens: returns those that there are.
    :param now: tells the time, in seconds since 1970.
    :param clock: tells seconds that pass.
    :param open_paths: what everybody may ask for.
    :param link_keys: returns the keys by which links are signed that are as good
        as a token; None where no links are.
    """

    def __init__(
        self,
        tokens: Callable[[], Tokens],
        scope: str,
        now: Callable[[], float],
        clock: Callable[[], float],
        open_paths: Container[bytes] = (),
        link_keys: Callable[[], Keys] | None = None,
    ) -> None:
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
        if _SIGNED in target:  # which is not for access logs: whoever has the link may fetch
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
            raise Unauthorized("a token is asked for here", _CHALLENGE)
        token = None
        if value[: len(_SCHEME)].lower() == _SCHEME:
            token = self._tokens().find(value[len(_SCHEME) :].strip(b" "))
        if token is None:
            raise Unauthorized("that is no token that is known here", _WRONG)
        if not token.holds(self._now()):
            raise Unauthorized(f"the token {token.name} has expired", _WRONG)
        if self._scope not in token.scopes:
            raise Forbidden(f"the token {token.name} is not for this: {self._scope}")


class AdminGuard:
    """Lets in who may do what is asked of an admin port.

    Who may reach that may see how the server is doing, and needs for the objects what
    is needed for them elsewhere.

    :param uploads: what has to be passed for uploads, if anything.
    :param fetches: the same for fetches.
    :param rest: the same for all else.
    """

    def __init__(self, uploads: Guard | None, fetches: Guard | None, rest: Guard | None) -> None:
        self._uploads = uploads
        self._fetches = fetches
        self._rest = rest

    def __call__(self, request: Request) -> None:
        guard = self._rest
        if request.route.startswith(("/upload", "/form", "/tus")):
            guard = self._uploads or guard
        elif request.route.startswith("/fetch"):
            guard = self._fetches or guard
        if guard is not None:
            guard(request)


def log_refusal(log: LimitedLog, request: Request, error: SOSError) -> None:
    """Tell who was turned away because of *error*: some of them, and the number of the others."""
    log.tell(
        LogLevel.warn,
        "turned away: {method} {path} from {peer}: {error}",
        method=request.method.decode("latin-1"),
        path=without_secrets(request, request.path)[:200].decode("latin-1"),
        peer=getattr(request.getClientAddress(), "host", "a socket"),
        error=error,
    )
